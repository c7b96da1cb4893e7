package node

import (
	"errors"
	"slices"

	"github.com/underlane/underlane/test/cluster/kernel"
	"github.com/underlane/underlane/test/cluster/layout"
)

const cgroupMount = "/sys/fs/cgroup"

// view is what a node shows of the machine's hierarchies, mounted where a host
// that has just these has them. What it does not show is there all the same:
// the node's processes are in a cgroup of its own in each.
func view(machine []kernel.Hierarchy, kind string) ([]kernel.Hierarchy, error) {
	v2 := func(h kernel.Hierarchy) bool { return h.V2 }
	switch kind {
	case layout.CgroupV1:
		v1 := slices.DeleteFunc(slices.Clone(machine), v2)
		if len(v1) == 0 {
			return nil, errors.New("this machine has no cgroup v1 to show: --cgroup machine or v2")
		}
		return v1, nil
	case layout.CgroupV2:
		h := machine[slices.IndexFunc(machine, v2)] // kernel.Hierarchies sees to it that there is one
		h.Mount = cgroupMount
		return []kernel.Hierarchy{h}, nil
	}
	return machine, nil
}

// bare says that the hierarchies have no controllers to limit pods with: the
// machine's version 1 has them, and it is not shown.
func bare(seen []kernel.Hierarchy) bool {
	return len(seen) == 1 && seen[0].V2 && !seen[0].Only
}
