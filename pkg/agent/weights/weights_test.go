package weights

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/cgroup"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

const node = "node-1"

// uid is the UID of a pod.
func uid(n int) string { return fmt.Sprintf("0b9c6a52-4b3e-4f0e-9a55-%012d", n) }

// host is a machine with cgroups.
type host struct {
	t    *testing.T
	dir  string
	proc string
}

// newHost makes a machine whose process 1 has these mounts: lines of mountinfo, in which %s
// is the machine's directory.
func newHost(t *testing.T, mounts ...string) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir()}
	h.proc = filepath.Join(h.dir, "proc")
	h.write("proc/1/mountinfo", strings.ReplaceAll(strings.Join(mounts, "\n"), "%s", h.dir))
	if err := os.Symlink("/", filepath.Join(h.proc, "1/root")); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) write(path, text string) {
	h.t.Helper()
	path = filepath.Join(h.dir, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) cgroups() ([]cgroup.Tree, error) { return cgroup.Host(h.proc) }

const (
	mount1  = "31 23 0:26 / %s/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct"
	mount1s = "33 23 0:28 / %s/cgroup/cpuset rw,relatime shared:9 - cgroup cgroup rw,cpuset"
	mount2  = "30 23 0:25 / %s/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw"
	mount2h = "32 23 0:27 / %s/cgroup/unified rw,nosuid shared:4 - cgroup2 cgroup2 rw"
)

// shares are what a Follower has set.
type shares struct{ weights map[string]int }

func (s *shares) SetPodWeight(uid string, weight int) { s.weights[uid] = weight }

func (s *shares) RetainPods(keep func(string) bool) {
	maps.DeleteFunc(s.weights, func(uid string, _ int) bool { return !keep(uid) })
}

func workload(n int, change func(*mesh.Workload)) state.Resource {
	w := &mesh.Workload{UID: uid(n), Namespace: "shop", Name: fmt.Sprint("pod-", n), Node: node, Meshed: true}
	if change != nil {
		change(w)
	}
	return state.Resource{Name: state.WorkloadName(w.UID), Version: "1", Workload: w}
}

func apply(t *testing.T, store *state.Store, d state.Delta) {
	t.Helper()
	d.Synced = true
	if err := store.Apply(d); err != nil {
		t.Fatal(err)
	}
}

// start runs a Follower, and returns what it has set when all it does at once is done.
func start(t *testing.T, f *Follower) (set func() map[string]int) {
	t.Helper()
	s := &shares{weights: make(map[string]int)}
	f.Shares = s
	if f.Log == nil {
		f.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return func() map[string]int {
		synctest.Wait()
		return maps.Clone(s.weights)
	}
}

// TestHierarchies: weights are read where the host has the controller cpu, in the names of
// both cgroup drivers.
func TestHierarchies(t *testing.T) {
	systemd := func(class string, n int) string {
		return "kubepods.slice/kubepods-" + class + ".slice/kubepods-" + class + "-pod" + strings.ReplaceAll(uid(n), "-", "_") + ".slice/"
	}
	cgroupfs := func(class string, n int) string { return "kubepods/" + class + "/pod" + uid(n) + "/" }
	for name, tt := range map[string]struct {
		mounts []string
		files  map[string]string
	}{
		"v2, systemd": {[]string{mount2}, map[string]string{
			"cgroup/cgroup.controllers":                                 "cpuset cpu io memory",
			"cgroup/" + systemd("besteffort", 1) + "cpu.weight":         "1",
			"cgroup/" + systemd("burstable", 2) + "cpu.weight":          "39",
			"cgroup/" + systemd("burstable", 2) + "cri-x/cpu.weight":    "7", // a container
			"cgroup/kubelet/" + cgroupfs("burstable", 3) + "cpu.weight": "157",
		}},
		"v1": {[]string{mount1s, mount1}, map[string]string{
			"cgroup/cpu/" + cgroupfs("besteffort", 1) + "cpu.shares": "2",
			"cgroup/cpu/" + cgroupfs("burstable", 2) + "cpu.shares":  "400",
			"cgroup/cpu/" + systemd("burstable", 3) + "cpu.shares":   "1608",
		}},
		"hybrid": {[]string{mount2h, mount1}, map[string]string{
			"cgroup/unified/cgroup.controllers":                      "",
			"cgroup/unified/" + cgroupfs("besteffort", 1) + "tasks":  "",
			"cgroup/cpu/" + cgroupfs("besteffort", 1) + "cpu.shares": "11",
			"cgroup/cpu/" + cgroupfs("burstable", 2) + "cpu.shares":  "400",
			"cgroup/cpu/" + cgroupfs("burstable", 3) + "cpu.shares":  "1608",
		}},
		"a node of several": {[]string{mount2}, map[string]string{
			"cgroup/cgroup.controllers":                                 "cpu",
			"cgroup/node-1/" + cgroupfs("besteffort", 1) + "cpu.weight": "1",
			"cgroup/node-1/" + cgroupfs("burstable", 2) + "cpu.weight":  "39",
			"cgroup/node-1/" + cgroupfs("burstable", 3) + "cpu.weight":  "157",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, tt.mounts...)
				for path, text := range tt.files {
					h.write(path, text)
				}
				store := state.NewStore(node)
				apply(t, store, state.Delta{Resources: []state.Resource{workload(1, nil), workload(2, nil), workload(3, nil)}})
				set := start(t, &Follower{Host: h.cgroups, State: store})
				if diff := cmp.Diff(map[string]int{uid(1): 1, uid(2): 39, uid(3): 157}, set()); diff != "" {
					t.Errorf("weights (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestFollow: a pod gets its weight when the kubelet has made its cgroup, and another one
// when it is resized. What is known of a pod that has ended is forgotten.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, mount2)
		h.write("cgroup/cgroup.controllers", "cpu")
		store := state.NewStore(node)
		set := start(t, &Follower{Host: h.cgroups, State: store})
		check := func(what string, want map[string]int) {
			t.Helper()
			if diff := cmp.Diff(want, set()); diff != "" {
				t.Errorf("%s: weights (-want +got):\n%s", what, diff)
			}
		}
		file := func(n int) string { return "cgroup/kubepods/pod" + uid(n) + "/cpu.weight" }
		check("before the state has come", map[string]int{})

		apply(t, store, state.Delta{Resources: []state.Resource{
			workload(1, nil), workload(2, func(w *mesh.Workload) { w.Meshed = false }), workload(3, nil),
		}})
		h.write(file(2), "50")
		check("before the cgroup is made", map[string]int{})
		h.write(file(1), "20")
		time.Sleep(retry)
		check("when it is made", map[string]int{uid(1): 20})

		h.write(file(1), "80")
		time.Sleep(refresh)
		check("resized", map[string]int{uid(1): 80})

		time.Sleep(retryFor)
		h.write(file(3), "60")
		time.Sleep(refresh)
		check("made late", map[string]int{uid(1): 80, uid(3): 60})

		if err := os.RemoveAll(filepath.Join(h.dir, filepath.Dir(file(3)))); err != nil {
			t.Fatal(err)
		}
		h.write("cgroup/other/pod"+uid(3)+"/cpu.weight", "70")
		time.Sleep(2 * refresh)
		check("another cgroup", map[string]int{uid(1): 80, uid(3): 70})

		apply(t, store, state.Delta{Removed: []string{state.WorkloadName(uid(1))}})
		time.Sleep(refresh)
		check("a pod has ended", map[string]int{uid(3): 70})
	})
}

// TestNoHierarchy: without cgroups that share the processors no pod gets a weight, and the
// log says so once.
func TestNoHierarchy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, mount1s, mount2h)
		store := state.NewStore(node)
		apply(t, store, state.Delta{Resources: []state.Resource{workload(1, nil)}})
		var log strings.Builder
		set := start(t, &Follower{
			Host: h.cgroups, State: store, Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		time.Sleep(3 * refresh)
		if got := set(); len(got) > 0 {
			t.Errorf("got the weights %v, want none", got)
		}
		if n := strings.Count(log.String(), "equal shares"); n != 1 {
			t.Errorf("got %d lines, want 1:\n%s", n, log.String())
		}
	})
}
