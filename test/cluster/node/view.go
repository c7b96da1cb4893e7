package node

import (
	"errors"
	"slices"

	"github.com/underlane/underlane/test/cluster/kernel"
	"github.com/underlane/underlane/test/cluster/layout"
)

const cgroupMount = "/sys/fs/cgroup"

// view returns the hierarchies of the machine that a node has, mounted where a host
// with only these has them. The node's processes are in a cgroup of the node in all
// hierarchies, including those that it does not show.
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
		h := machine[slices.IndexFunc(machine, v2)] // kernel.Hierarchies fails if there is none
		h.Mount = cgroupMount
		return []kernel.Hierarchy{h}, nil
	}
	return machine, nil
}

// bare reports whether the hierarchies have no controllers to limit pods. That is so
// if the machine's version 1 hierarchies, which have them, are not shown.
func bare(seen []kernel.Hierarchy) bool {
	return len(seen) == 1 && seen[0].V2 && !seen[0].Only
}
