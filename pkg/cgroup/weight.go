package cgroup

import (
	"slices"
	"strings"
)

// Units of the files that hold a cgroup's weight: their value for a default weight, which a
// cgroup has that was not given another.
const (
	unit2 = 100  // of cpu.weight (cgroup-v2.rst, "CPU")
	unit1 = 1024 // of cpu.shares (scheduler/sched-design-CFS.rst)
	// mostShares is the largest value that the kernel takes for cpu.shares. The largest
	// cpu.weight, 10,000, is smaller.
	mostShares = 1 << 18
)

// Sharing returns the hierarchy of trees that shares the processors among its cgroups, that
// is, has the controller cpu: that of version 2, or one of version 1. The kernel lets one
// hierarchy have a controller. ok is false if it is not among trees.
func Sharing(trees []Tree) (t Tree, ok bool) {
	for _, t := range trees {
		root := cgroup{t.FS, "."}
		if t.V2 && slices.Contains(strings.Fields(root.text("cgroup.controllers")), "cpu") || has(t.Controllers, "cpu") {
			return t, true
		}
	}
	return Tree{}, false
}

// Weight returns the weight by which a cgroup's processes get processors under contention,
// in units of cpu.weight, of which 100 is the default; at least 1. It reads cpu.weight, or
// in a hierarchy of version 1 cpu.shares, of which 1024 are the default. ok is false if the
// cgroup is not there, or has no weight.
func (t Tree) Weight(dir string) (weight int, ok bool) {
	file, unit := "cpu.shares", uint64(unit1)
	if t.V2 {
		file, unit = "cpu.weight", unit2
	}
	n, ok := number(cgroup{t.FS, dir}.text(file))
	if !ok || n > mostShares {
		return 0, false
	}
	return max(1, int(n*unit2/unit)), true
}
