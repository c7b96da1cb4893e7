package cgroup

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWeight: the weights of pods on each kind of host, with both cgroup drivers of the
// kubelet, where nodes are containers, and where the kernel shares no processors.
func TestWeight(t *testing.T) {
	type all = map[string]map[string]string
	const (
		systemd = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + underscored + ".slice"
		nested  = "docker/4f1c/kubelet/kubepods/burstable/pod" + other
		plain   = "kubepods/besteffort/pod" + other
	)
	weights := all{
		".":     {"cgroup.controllers": "cpuset cpu io memory\n"},
		systemd: {"cpu.weight": "39\n", "cri-containerd-aa.scope/cpu.weight": "7\n"},
		nested:  {"cpu.weight": "157\n"},
	}
	shares := all{systemd: {"cpu.shares": "400\n"}, plain: {"cpu.shares": "2\n"}}
	v1 := Tree{FS: files(shares), Controllers: []string{"cpu", "cpuacct"}}
	bare := Tree{V2: true, FS: files(all{".": {"cgroup.controllers": "\n"}, systemd: {"cpu.stat": ""}, plain: {"cpu.stat": ""}})}
	memory := Tree{FS: files(all{systemd: memoryV1}), Controllers: []string{"memory"}}
	for name, c := range map[string]struct {
		trees []Tree
		want  map[string]int // nil: no hierarchy shares the processors
	}{
		"v2":             {[]Tree{{V2: true, FS: files(weights)}}, map[string]int{uid: 39, other: 157}},
		"v1":             {[]Tree{memory, v1}, map[string]int{uid: 39, other: 1}},
		"hybrid":         {[]Tree{bare, memory, v1}, map[string]int{uid: 39, other: 1}},
		"hybrid, cpu v2": {[]Tree{memory, {V2: true, FS: files(weights)}}, map[string]int{uid: 39, other: 157}},
		"no weight": {[]Tree{{V2: true, FS: files(all{
			".": weights["."], systemd: {"cpu.weight": "max\n"}, plain: {"cpu.weight": "18446744073709551615\n"}, "kubepods/pod" + other: {"cpu.stat": ""},
		})}}, map[string]int{}},
		"v2 without the controller": {[]Tree{bare, memory}, nil},
		"nothing":                   {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			tree, ok := Sharing(c.trees)
			if ok != (c.want != nil) {
				t.Fatalf("a hierarchy that shares the processors: %v, want %v", ok, c.want != nil)
			}
			if !ok {
				return
			}
			got := map[string]int{}
			for uid, dirs := range Pods([]Tree{tree}) {
				for _, dir := range dirs[0] {
					if weight, ok := tree.Weight(dir); ok {
						got[uid] = weight
					}
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("weights (-want +got):\n%s", diff)
			}
		})
	}
	tree := Tree{V2: true, FS: files(weights)}
	if w, ok := tree.Weight("kubepods/pod" + uid); ok {
		t.Errorf("of a cgroup that is gone: got %d, want none", w)
	}
}
