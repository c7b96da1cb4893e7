package podns

import "strings"

// PodUID returns the UID of the pod after which the kubelet has named a cgroup. ok is false
// if it is no pod's cgroup. Static pods have another UID there than in the API.
func PodUID(cgroup string) (uid string, ok bool) {
	found := podCgroup.FindStringSubmatch(cgroup)
	if found == nil {
		return "", false
	}
	return strings.ReplaceAll(found[1], "_", "-"), true
}
