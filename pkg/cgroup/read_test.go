package cgroup

import (
	"maps"
	"path"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	uid   = "0b9c6a52-4b3e-4f0e-9a55-2f7f3cbd7e01"
	other = "d3a1c9a0-77aa-4a26-8e93-51b5a0a4a002"
)

// files is a tree with the files of some cgroups.
func files(cgroups map[string]map[string]string) fstest.MapFS {
	tree := fstest.MapFS{}
	for dir, all := range cgroups {
		for name, text := range all {
			tree[path.Join(dir, name)] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	return tree
}

const (
	psi = "some avg10=1.50 avg60=0.75 avg300=0.10 total=123456\nfull avg10=9.00 avg60=9.00 avg300=9.00 total=9\n"
	// pod of 1 processor and 64 MiB; its container has 0.5 processors and 32 MiB.
	mebi = 1 << 20
)

var podV2 = map[string]string{
	"cpu.stat":        "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 40\nnr_throttled 10\nthrottled_usec 700000\nnr_bursts 0\nburst_usec 0\n",
	"cpu.max":         "100000 100000\n",
	"memory.current":  "20971520\n",
	"memory.peak":     "41943040\n",
	"memory.max":      "67108864\n",
	"memory.stat":     "anon 8388608\nfile 12582912\ninactive_file 4194304\nactive_file 8388608\n",
	"memory.events":   "low 0\nhigh 0\nmax 31\noom 3\noom_kill 2\noom_group_kill 0\n",
	"cpu.pressure":    psi,
	"memory.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
	"io.pressure":     "some avg10=100.00 avg60=50.00 avg300=0.00 total=5\n",
}

var containerV2 = map[string]string{
	"cpu.stat":       "usage_usec 2400000\nnr_periods 60\nnr_throttled 30\nthrottled_usec 300000\n",
	"cpu.max":        "50000 100000\n",
	"memory.current": "16777216\n",
	"memory.max":     "33554432\n",
	"memory.events":  "oom 3\noom_kill 2\n",
}

var pauseV2 = map[string]string{
	"cpu.stat": "usage_usec 30000\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n", "cpu.max": "max 100000\n",
	"memory.current": "262144\n", "memory.max": "max\n",
}

var wantV2 = Usage{
	Known: KnowsCPU | KnowsLimits | KnowsMemory | KnowsPressure,
	CPU:   2500 * time.Millisecond, CPULimit: 1,
	Periods: 100, Throttled: 40, ThrottledFor: time.Second,
	Memory: 20 * mebi, WorkingSet: 16 * mebi, Peak: 40 * mebi, MemoryLimit: 64 * mebi, Fill: 0.5,
	OOMs: 3, OOMKills: 2,
	CPUPressure: Pressure{1.5, 0.75, 123456 * time.Microsecond}, IOPressure: Pressure{100, 50, 5 * time.Microsecond},
}

func unlimitedV2() map[string]string {
	all := maps.Clone(podV2)
	all["cpu.max"], all["memory.max"] = "max 100000\n", "max\n"
	delete(all, "memory.peak")
	return all
}

// The same pod on version 1.
var (
	memoryV1 = map[string]string{
		"memory.usage_in_bytes": "20971520\n", "memory.max_usage_in_bytes": "41943040\n", "memory.limit_in_bytes": "67108864\n",
		"memory.stat":        "cache 0\ninactive_file 0\nhierarchical_memory_limit 67108864\ntotal_inactive_file 4194304\n",
		"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
	}
	containerMemoryV1 = map[string]string{
		"memory.usage_in_bytes": "16777216\n", "memory.limit_in_bytes": "33554432\n",
		"memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
	}
	cpuV1 = map[string]string{
		"cpu.cfs_period_us": "100000\n", "cpu.cfs_quota_us": "100000\n",
		"cpu.stat": "nr_periods 40\nnr_throttled 10\nthrottled_time 700000000\nnr_bursts 0\nburst_time 0\n",
	}
	containerCPUV1 = map[string]string{
		"cpu.cfs_period_us": "100000\n", "cpu.cfs_quota_us": "50000\n", "cpu.stat": "nr_periods 60\nnr_throttled 30\nthrottled_time 300000000\n",
	}
	cpuacctV1   = map[string]string{"cpuacct.usage": "2500000000\n"}
	unlimitedV1 = map[string]string{"memory.usage_in_bytes": "20971520\n", "memory.limit_in_bytes": "9223372036854771712\n"}
)

func both(a, b map[string]string) map[string]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// TestRead: a pod's usage, of recorded trees of the three kinds of hosts, with both cgroup
// drivers of the kubelet, directly on a host and in a container, and where no cgroup is the
// pod's.
func TestRead(t *testing.T) {
	wantV1 := wantV2
	wantV1.Known, wantV1.OOMs = KnowsCPU|KnowsLimits|KnowsMemory, 0
	wantV1.CPUPressure, wantV1.IOPressure = Pressure{}, Pressure{}
	wantHybrid := wantV1
	wantHybrid.Known |= KnowsPressure
	wantHybrid.CPUPressure, wantHybrid.IOPressure = wantV2.CPUPressure, wantV2.IOPressure
	unlimited := wantV2
	unlimited.CPULimit, unlimited.MemoryLimit, unlimited.Peak, unlimited.Fill = 0, 0, 0, 0
	unlimited.Periods, unlimited.Throttled, unlimited.ThrottledFor = 40, 10, 700*time.Millisecond

	const (
		systemd  = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0b9c6a52_4b3e_4f0e_9a55_2f7f3cbd7e01.slice"
		cgroupfs = "kubepods/burstable/pod" + uid
		kind     = "docker/4f1c/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod0b9c6a52_4b3e_4f0e_9a55_2f7f3cbd7e01.slice"
	)
	v1 := func(pod, container string) []Tree {
		return []Tree{
			{FS: files(map[string]map[string]string{pod: both(cpuV1, cpuacctV1), pod + container: containerCPUV1}), Controllers: []string{"cpu", "cpuacct"}},
			{FS: files(map[string]map[string]string{pod: memoryV1, pod + container: containerMemoryV1}), Controllers: []string{"memory"}},
		}
	}
	bare := map[string]string{ // version 2 without controllers
		"cpu.stat": "usage_usec 2400000\nuser_usec 0\nsystem_usec 0\n", "cpu.pressure": psi,
		"memory.pressure": podV2["memory.pressure"], "io.pressure": podV2["io.pressure"], "cgroup.procs": "",
	}
	for name, c := range map[string]struct {
		trees []Tree
		want  Usage
	}{
		"v2, systemd": {[]Tree{{V2: true, FS: files(map[string]map[string]string{
			systemd: podV2, systemd + "/cri-containerd-aa.scope": containerV2, systemd + "/cri-containerd-bb.scope": pauseV2,
			"system.slice/kubelet.service": pauseV2,
		})}}, wantV2},
		"v2, cgroupfs": {[]Tree{{V2: true, FS: files(map[string]map[string]string{
			cgroupfs: podV2, cgroupfs + "/aa": containerV2, cgroupfs + "/bb": pauseV2,
			"kubepods/pod" + other: containerV2,
		})}}, wantV2},
		"v2, kind": {[]Tree{{V2: true, FS: files(map[string]map[string]string{
			kind: podV2, kind + "/aa": containerV2,
		})}}, wantV2},
		"v2, no limit": {[]Tree{{V2: true, FS: files(map[string]map[string]string{
			cgroupfs: unlimitedV2(), cgroupfs + "/aa": pauseV2,
		})}}, unlimited},
		"v1, systemd":  {v1(systemd, "/cri-containerd-aa.scope"), wantV1},
		"v1, cgroupfs": {v1(cgroupfs, "/aa"), wantV1},
		"v1, no limit": {
			[]Tree{{FS: files(map[string]map[string]string{cgroupfs: unlimitedV1}), Controllers: []string{"memory"}}},
			Usage{Known: KnowsMemory, Memory: 20 * mebi, WorkingSet: 20 * mebi},
		},
		"hybrid": {append([]Tree{{V2: true, FS: files(map[string]map[string]string{cgroupfs: bare})}}, v1(cgroupfs, "/aa")...), wantHybrid},
		"hybrid, not in the tree of v2": {
			append([]Tree{{V2: true, FS: files(map[string]map[string]string{"kubepods/pod" + other: bare})}}, v1(cgroupfs, "/aa")...), wantV1,
		},
		"broken files": {[]Tree{{V2: true, FS: files(map[string]map[string]string{cgroupfs: {
			"cpu.stat": "usage_usec\nnr_periods -1\n\n x y z", "cpu.max": "max", "memory.current": "18446744073709551616",
			"cpu.pressure": "some avg10=NaN avg60=1e9 total", "io.pressure": "some", "memory.pressure": "",
		}})}}, Usage{Known: KnowsLimits | KnowsPressure}},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := Read(c.trees, Pods(c.trees)[uid], Everything)
			if !ok {
				t.Fatalf("the pod was not found among %v", Pods(c.trees))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("usage (-want +got):\n%s", diff)
			}
		})
	}
}

// TestReadParts: only what is wanted is read.
func TestReadParts(t *testing.T) {
	dir := "kubepods/pod" + uid
	trees := []Tree{
		{V2: true, FS: files(map[string]map[string]string{dir: podV2})},
		{FS: files(map[string]map[string]string{dir: cpuacctV1}), Controllers: []string{"cpuacct"}},
		{FS: files(map[string]map[string]string{dir: memoryV1}), Controllers: []string{"memory"}},
		{FS: files(map[string]map[string]string{dir: cpuV1}), Controllers: []string{"cpu"}},
	}
	for part := KnowsCPU; part <= KnowsPressure; part <<= 1 {
		got, ok := Read(trees, Pods(trees)[uid], part)
		if !ok || got.Known != part {
			t.Errorf("of part %b: read the parts %b, %v; want it alone", part, got.Known, ok)
		}
	}
	if got, ok := Read(trees, Pods(trees)[uid], 0); !ok || got != (Usage{}) {
		t.Errorf("of no part: got %+v, %v; want nothing, of a pod that is there", got, ok)
	}
}

// TestReadOfContainers: where the kubelet makes no cgroups of pods, a pod is its
// containers, of which one may have no limit.
func TestReadOfContainers(t *testing.T) {
	container := both(containerV2, map[string]string{"cgroup.procs": "10\n12\n", "cpu.pressure": psi})
	second := both(containerV2, map[string]string{"cgroup.procs": "13\n", "cpu.pressure": "some avg10=5.00 avg60=0.00 avg300=0.00 total=1\n"})
	trees := []Tree{{V2: true, FS: files(map[string]map[string]string{
		".": {"cgroup.procs": "1\n11\n"}, "k8s.io/aa": container, "k8s.io/bb": second,
		"k8s.io/cc": both(pauseV2, map[string]string{"cgroup.procs": "14\n"}), "shared": {"cgroup.procs": "10\n11\n20\n21\n22\n"}, "threaded": {"cgroup.type": "threaded\n"},
	})}}
	dirs := OfProcesses(trees, []string{"10", "11", "12", "13"})
	if diff := cmp.Diff(Dirs{{"k8s.io/aa", "k8s.io/bb"}}, dirs); diff != "" {
		t.Errorf("cgroups (-want +got):\n%s", diff)
	}
	got, ok := Read(trees, dirs, Everything)
	want := Usage{
		Known: KnowsCPU | KnowsLimits | KnowsMemory | KnowsPressure,
		CPU:   4800 * time.Millisecond, CPULimit: 1, Periods: 120, Throttled: 60, ThrottledFor: 600 * time.Millisecond,
		Memory: 32 * mebi, WorkingSet: 32 * mebi, MemoryLimit: 64 * mebi, Fill: 0.5, OOMs: 6, OOMKills: 4,
		CPUPressure: Pressure{5, 0.75, 123457 * time.Microsecond},
	}
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Errorf("usage (-want +got), found %v:\n%s", ok, diff)
	}
	got, _ = Read(trees, OfProcesses(trees, []string{"13", "14"}), Everything)
	if got.CPULimit != 0 || got.MemoryLimit != 0 {
		t.Errorf("limits of %v processors and %d bytes, want none: one container has none", got.CPULimit, got.MemoryLimit)
	}
	if dirs := OfProcesses(trees, []string{"1", "99"}); !dirs.Empty() {
		t.Errorf("processes in the root, and in none: got %v, want no cgroup", dirs)
	}
}

// TestReadOfNothing: the cgroups of a pod that has ended are gone.
func TestReadOfNothing(t *testing.T) {
	trees := []Tree{{V2: true, FS: files(map[string]map[string]string{"kubepods/pod" + other: podV2})}}
	if Pods(trees)[uid] != nil {
		t.Errorf("got %v, want no cgroup of the pod", Pods(trees))
	}
	for name, dirs := range map[string]Dirs{"none": nil, "gone": {{"kubepods/pod" + uid}}, "too many trees": {nil, {"x"}}} {
		if got, ok := Read(trees, dirs, Everything); ok || got != (Usage{}) {
			t.Errorf("%s: got %+v, %v; want nothing", name, got, ok)
		}
	}
}
