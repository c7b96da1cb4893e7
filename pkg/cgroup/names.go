package cgroup

import (
	"regexp"
	"strings"
)

// podName matches the kubelet's name of a pod's cgroup: pod<UID> with the driver cgroupfs,
// and …-pod<UID with underscores>.slice with that of systemd.
var podName = regexp.MustCompile(`(?:^|-)pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(?:\.slice)?$`)

// PodUID returns the UID of the pod after which the kubelet has named a cgroup: name is the
// last element of its path. ok is false if it is no pod's cgroup. Static pods have another
// UID in the API than here, of another form, and are not recognised.
func PodUID(name string) (uid string, ok bool) {
	found := podName.FindStringSubmatch(name)
	if found == nil {
		return "", false
	}
	return strings.ReplaceAll(found[1], "_", "-"), true
}

// PodUIDs returns the UIDs of the pods whose cgroups a process is in, by the process's
// /proc/PID/cgroup (cgroups(7)). A UID is there once for each hierarchy that names it. None:
// the process is in no pod's cgroup, or in that of a static pod.
//
// A container's cgroup may have the pod's name in its own: with a runtime that does not use
// systemd beside a kubelet that does it is …-pod<UID>.slice:cri-containerd:<ID>.
func PodUIDs(procCgroup string) (uids []string) {
	for name := range strings.FieldsFuncSeq(procCgroup, func(r rune) bool { return r == '/' || r == ':' || r == '\n' }) {
		if uid, ok := PodUID(name); ok {
			uids = append(uids, uid)
		}
	}
	return uids
}
