package cgroup

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const underscored = "0b9c6a52_4b3e_4f0e_9a55_2f7f3cbd7e01"

// TestPodUID: the names that the kubelet gives to cgroups of pods with both of its drivers,
// and those of other cgroups.
func TestPodUID(t *testing.T) {
	for name, want := range map[string]string{
		"pod" + uid: uid,
		"kubepods-besteffort-pod" + underscored + ".slice":                   uid,
		"kubepods-pod" + underscored + ".slice":                              uid,
		"kubelet-kubepods-burstable-pod" + underscored + ".slice":            uid,
		"pod1a2b3c4d5e6f708192a3b4c5d6e7f809":                                "", // a static pod
		"kubepods-burstable-pod" + underscored + ".slice:cri-containerd:f00": "",
		"tripod" + uid:             "",
		"pod" + uid + "0":          "",
		"kubepods-burstable.slice": "",
		uid:                        "",
		"":                         "",
	} {
		if got, ok := PodUID(name); got != want || ok != (want != "") {
			t.Errorf("PodUID(%q) = %q, %v; want %q", name, got, ok, want)
		}
	}
}

// TestPodUIDs: the pods of a process's /proc/PID/cgroup, on each kind of host.
func TestPodUIDs(t *testing.T) {
	slice := "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + underscored + ".slice"
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"v2, systemd":        {"0::" + slice + "/cri-containerd-f00.scope\n", []string{uid}},
		"v2, cgroupfs":       {"0::/kubepods/burstable/pod" + uid + "/f00\n", []string{uid}},
		"v1":                 {"5:cpu,cpuacct:/kubepods/pod" + uid + "/f00\n4:memory:/kubepods/pod" + uid + "/f00\n", []string{uid, uid}},
		"two drivers":        {"0::/system.slice/kubepods-burstable-pod" + underscored + ".slice:cri-containerd:f00\n", []string{uid}},
		"the pod's own":      {"0::" + slice + "\n", []string{uid}},
		"another view of it": {"0::/../../pod" + other + "/f00\n", []string{other}},
		"two pods":           {"5:cpu:/kubepods/pod" + uid + "/f00\n0::/kubepods/pod" + other + "/f00\n", []string{uid, other}},
		"no pod":             {"0::/system.slice/kubelet.service\n", nil},
		"nothing":            {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, PodUIDs(c.text)); diff != "" {
				t.Errorf("UIDs (-want +got):\n%s", diff)
			}
		})
	}
}
