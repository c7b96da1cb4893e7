package node

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/test/cluster/kernel"
	"github.com/underlane/underlane/test/cluster/layout"
)

func TestView(t *testing.T) {
	memory := kernel.Hierarchy{Mount: "/sys/fs/cgroup/memory", Options: []string{"memory"}}
	unified := kernel.Hierarchy{Mount: "/sys/fs/cgroup/unified", V2: true}
	hybrid := []kernel.Hierarchy{memory, unified}
	only := []kernel.Hierarchy{{Mount: cgroupMount, V2: true, Only: true}}
	for name, test := range map[string]struct {
		machine []kernel.Hierarchy
		kind    string
		want    []kernel.Hierarchy // nil: refused
		bare    bool
	}{
		"hybrid":              {hybrid, layout.CgroupMachine, hybrid, false},
		"hybrid as v1":        {hybrid, layout.CgroupV1, []kernel.Hierarchy{memory}, false},
		"hybrid as v2":        {hybrid, layout.CgroupV2, []kernel.Hierarchy{{Mount: cgroupMount, V2: true}}, true},
		"version 2":           {only, layout.CgroupMachine, only, false},
		"version 2 as v2":     {only, layout.CgroupV2, only, false},
		"version 2 has no v1": {only, layout.CgroupV1, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := view(test.machine, test.kind)
			if diff := cmp.Diff(test.want, got); diff != "" || (err != nil) != (test.want == nil) {
				t.Errorf("error %v (-want +got):\n%s", err, diff)
			}
			if bare(got) != test.bare {
				t.Errorf("bare = %v, want %v", bare(got), test.bare)
			}
		})
	}
}
