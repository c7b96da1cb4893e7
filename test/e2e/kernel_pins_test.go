package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/test/lab"
)

// bpftool runs bpftool -j and reads what it prints.
func bpftool(t *testing.T, into any, args ...string) {
	t.Helper()
	out, err := exec.Command("bpftool", append([]string{"-j"}, args...)...).Output()
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		t.Fatalf("bpftool %v: %v\n%s", args, err, out)
	}
}

// kernelObject is one of `bpftool prog|link|map show`.
type kernelObject struct {
	ID     int
	Name   string
	ProgID int `json:"prog_id"`
}

// objects are what stands behind the pins of a node: "prog 12", "link 4"…,
// with a name for people.
func objects(t *testing.T, pins string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(pins, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		var o kernelObject
		if filepath.Base(filepath.Dir(path)) == "links" {
			bpftool(t, &o, "link", "show", "pinned", path)
			out[fmt.Sprintf("prog %d", o.ProgID)] = e.Name()
			out[fmt.Sprintf("link %d", o.ID)] = e.Name()
		} else {
			bpftool(t, &o, "map", "show", "pinned", path)
			out[fmt.Sprintf("map %d", o.ID)] = e.Name()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// living gives those of objects that the kernel still has.
func living(t *testing.T, objects map[string]string) []string {
	t.Helper()
	var out []string
	for _, kind := range []string{"prog", "link", "map"} {
		var all []kernelObject
		bpftool(t, &all, kind, "show")
		for _, o := range all {
			if name, ok := objects[fmt.Sprintf("%s %d", kind, o.ID)]; ok {
				out = append(out, fmt.Sprintf("%s %d %s", kind, o.ID, name))
			}
		}
	}
	return out
}

// assertKernelClean waits until nothing of objects, and no pin, is left.
func assertKernelClean(t *testing.T, l *lab.Lab, pins string, objects map[string]string) {
	t.Helper()
	if _, err := os.Stat(pins); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the pin directory is still there: %v", err)
	}
	// The kernel frees programs and maps a grace period later.
	l.Eventually(patience, func() error {
		if left := living(t, objects); len(left) > 0 {
			return fmt.Errorf("still in the kernel: %q", left)
		}
		return nil
	})
}

// assertInMesh makes a request from client to the pod web and checks that
// client's agent saw it, or did not.
func assertInMesh(t *testing.T, l *lab.Lab, want bool) {
	t.Helper()
	var tap *tapReader
	if want {
		tap = startTap(t, l, node1)
	}
	l.Exec("client", "labtest", "get", "http://"+l.Pod("web").IP().String()+":8080/in-mesh")
	if want {
		tap.wait("the request", func(e event) bool {
			return e.RequestInitEvent != nil && e.RequestInitEvent.Path == "/in-mesh" && e.TLS == "true"
		})
	}
}

func TestCleanupLeavesNothingInTheKernel(t *testing.T) {
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), serverPod("web", node2)))
	waitEnrolled(t, l, "default/client", "default/web")
	pins := nodeOf(t, l, node1).Pins
	had := objects(t, pins)
	var names []string
	for _, name := range had {
		if strings.HasPrefix(name, "sk_lookup_") {
			name = "sk_lookup"
		}
		names = append(names, name)
	}
	for _, want := range []string{"pods", "events", "counters", "connect4", "connect6", "getpeername4", "getsockname6", "sock_ops", "sk_lookup"} {
		if !slices.Contains(names, want) {
			t.Errorf("nothing is pinned as %q: %q", want, names)
		}
	}

	r := l.TryAgent(node1, "cleanup")
	if r.Code == 0 || !strings.Contains(r.Stderr, "an agent is running") {
		t.Errorf("cleanup beside a running agent: %s", r)
	}
	assertInMesh(t, l, true)

	l.KillAgent(node1)
	if diff := cmp.Diff(had, objects(t, pins)); diff != "" {
		t.Errorf("a killed agent's pins (-before +after):\n%s", diff)
	}
	out := l.Agent(node1, "cleanup")
	if n := strings.Count(out, "removed "); n == 0 {
		t.Errorf("cleanup said %q", out)
	}
	assertKernelClean(t, l, pins, had)
	assertInMesh(t, l, false)
	if out := l.Agent(node1, "cleanup"); !strings.Contains(out, "nothing to remove") {
		t.Errorf("a second cleanup said %q", out)
	}

	l.StartAgent(node1)
	waitEnrolled(t, l, "default/client")
	assertInMesh(t, l, true)
}

func TestStopWithCleanupLeavesNothingInTheKernel(t *testing.T) {
	l := lab.Up(t, lab.Options{AgentArgs: []string{"--cleanup", "--drain-timeout=2s"}}, manifests(clientPod("client", node1), serverPod("web", node2)))
	waitEnrolled(t, l, "default/client", "default/web")
	assertInMesh(t, l, true)
	pins := nodeOf(t, l, node1).Pins
	had := objects(t, pins)
	if len(living(t, had)) != len(had) {
		t.Fatalf("of %q the kernel shows %q", had, living(t, had))
	}
	l.SignalAgent(node1, "TERM")
	if a := nodeOf(t, l, node1).Agent; a.Exit != "exit status 0" {
		t.Errorf("the agent ended with %q", a.Exit)
	}
	assertKernelClean(t, l, pins, had)
	assertInMesh(t, l, false)
}

func TestMapsReadByPeople(t *testing.T) {
	closed := clientPod("client", node1)
	closed.Annotations = merge(failClosed, map[string]string{"underlane.io/skip-outbound-ports": "25,9000-9100"})
	l := lab.Up(t, lab.Options{Nodes: 1}, manifests(closed))
	waitEnrolled(t, l, "default/client")
	pins := nodeOf(t, l, node1).Pins

	var pods []struct {
		Formatted struct {
			Value struct {
				Name          string
				Addr4         struct{ Bytes []int }
				OutboundPort4 int                         `json:"outbound_port4"`
				OutboundPort6 int                         `json:"outbound_port6"`
				FailClosed    int                         `json:"fail_closed"`
				SkipOutbound  []struct{ First, Last int } `json:"skip_outbound"`
			}
		}
	}
	bpftool(t, &pods, "map", "dump", "pinned", filepath.Join(pins, "pods"))
	if len(pods) != 1 {
		t.Fatalf("%d entries in the pods map, want 1", len(pods))
	}
	v := pods[0].Formatted.Value
	if v.Name != "default/client" || v.OutboundPort4 != 15001 || v.OutboundPort6 != 15001 || v.FailClosed != 1 || len(v.SkipOutbound) < 2 ||
		v.SkipOutbound[0].First != 25 || v.SkipOutbound[1].First != 9000 || v.SkipOutbound[1].Last != 9100 {
		t.Errorf("the pods map shows %+v", v)
	}
	ip := l.Pod("client").IP().As16() // ::ffff:a.b.c.d
	var want []int
	for _, b := range ip {
		want = append(want, int(b))
	}
	if diff := cmp.Diff(want, v.Addr4.Bytes); diff != "" {
		t.Errorf("the pod's address (-want +got):\n%s", diff)
	}
	if a := heartbeatOf(t, l, node1); a.Last == 0 || a.Timeout == 0 || a.Pid != nodeOf(t, l, node1).Agent.Pid {
		t.Errorf("the agent map shows %+v", a)
	}
	// listeners is a sockhash: the kernel takes no BTF for these.
	for _, file := range []string{"pods", "host_flows", "inner_flows", "agent", "original_dsts", "peer_names", "sockets", "counters"} {
		var m struct {
			BTFID int `json:"btf_id"`
		}
		bpftool(t, &m, "map", "show", "pinned", filepath.Join(pins, file))
		if m.BTFID == 0 {
			t.Errorf("map %s has no BTF", file)
		}
	}
}

func TestStatusCheckAndDump(t *testing.T) {
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), clientPod("other", node1), serverPod("web", node2)))
	waitEnrolled(t, l, "default/client", "default/other", "default/web")

	type report struct {
		Success    bool
		Categories []struct {
			CategoryName string
			Checks       []struct{ Description, Hint, Error, Result string }
		}
	}
	var good report
	if err := json.Unmarshal([]byte(l.Agent(node1, "check", "-o", "json")), &good); err != nil {
		t.Fatal(err)
	}
	var categories []string
	for _, c := range good.Categories {
		categories = append(categories, c.CategoryName)
		for _, check := range c.Checks {
			if check.Result != "success" {
				t.Errorf("check %s of a healthy node: %+v", c.CategoryName, check)
			}
		}
	}
	if diff := cmp.Diff([]string{"kernel-features", "pinned-objects", "node-agent", "identity", "data-plane"}, categories); diff != "" {
		t.Errorf("categories (-want +got):\n%s", diff)
	}
	if out := l.Agent(node1, "check"); !strings.Contains(out, "Status check results are √") || strings.ContainsAny(out, "×‼") {
		t.Errorf("check said:\n%s", out)
	}
	if out := l.Agent(node1, "status"); !strings.Contains(out, "default/client") && !strings.Contains(out, "client") {
		t.Errorf("status said:\n%s", out)
	}

	var dump struct {
		Maps struct {
			Pods []struct {
				Name  string
				Addrs []string
			}
			Counters map[string]uint64
		}
		State, Certificates, Controller json.RawMessage
	}
	if err := json.Unmarshal([]byte(l.Agent(node1, "dump")), &dump); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range dump.Maps.Pods {
		got = append(got, p.Name+" "+strings.Join(p.Addrs, " "))
	}
	var want []string
	for _, ref := range []string{"client", "other"} {
		p := l.Pod(ref)
		want = append(want, p.Key()+" "+p.IP().String()+" "+p.IP6().String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pods in the dump (-want +got):\n%s", diff)
	}
	for what, part := range map[string]json.RawMessage{"state": dump.State, "certificates": dump.Certificates, "controller": dump.Controller} {
		if len(part) < 3 {
			t.Errorf("the dump's %s is %s", what, part)
		}
	}

	l.KillAgent(node1)
	for what, want := range map[string][]string{
		"status": {"the agent does not answer on"},
		"dump":   {"the agent does not answer on"},
		"check":  {"× agent answers on", "start the agent, or see why it ended in its log", "Status check results are ×"},
		"tap":    {"the agent does not answer on"},
	} {
		r := l.TryAgent(node1, what)
		for _, w := range want {
			if r.Code != 1 || !strings.Contains(r.Stdout+r.Stderr, w) {
				t.Errorf("without an agent, want exit status 1 and %q: %s", w, r)
			}
		}
	}
}

// The command itself: the other tests read the same stream without it.
func TestTapCommand(t *testing.T) {
	t.Parallel()
	l := lab.Up(t, lab.Options{}, manifests(clientPod("client", node1), serverPod("web", node2)))
	waitEnrolled(t, l, "default/client", "default/web")
	for format, want := range map[string]string{
		"":     `^req id=\d+:\d+ proxy=out +src=10\.77\.1\.2:\d+ dst=10\.77\.2\.2:8080 tls=true :method=GET :authority=10\.77\.2\.2:8080 :path=/seen`,
		"json": `^\{"source":\{"ip":"10\.77\.1\.2",.*"path":"/seen"`,
	} {
		tap := l.AgentCommand(node1, "tap", "pod/client", "--path", "/seen", "-o", format)
		out, err := tap.StdoutPipe()
		if err == nil {
			err = tap.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		first := make(chan string)
		go func() {
			defer close(first)
			for lines := bufio.NewScanner(out); lines.Scan(); {
				// It may begin to listen in the middle of a request.
				if line := lines.Text(); strings.HasPrefix(line, "req ") || strings.Contains(line, "requestInitEvent") {
					first <- line
					break
				}
			}
			_, _ = io.Copy(io.Discard, out)
		}()
		var line string
		l.Eventually(patience, func() error {
			for _, path := range []string{"/other", "/seen"} {
				l.Exec("client", "labtest", "get", "http://"+l.Pod("web").IP().String()+":8080"+path)
			}
			select {
			case line = <-first:
				return nil
			case <-time.After(100 * time.Millisecond):
				return errors.New("tap prints nothing")
			}
		})
		if !regexp.MustCompile(want).MatchString(line) {
			t.Errorf("tap -o %q printed %s\nwant %s", format, line, want)
		}
		_ = tap.Process.Signal(os.Interrupt)
		for range first {
		}
		if err := tap.Wait(); err != nil {
			t.Errorf("tap after an interrupt: %v", err)
		}
	}
}
