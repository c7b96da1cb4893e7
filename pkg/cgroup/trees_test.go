package cgroup

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMounts: the hierarchies of hosts as distributions and containers mount them.
func TestMounts(t *testing.T) {
	v1 := func(path string, controllers ...string) Mount { return Mount{Path: path, Controllers: controllers} }
	for name, c := range map[string]struct {
		mountinfo string
		want      []Mount
	}{
		"v2": {
			"22 1 0:20 / /proc rw,nosuid - proc proc rw\n" +
				"30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n",
			[]Mount{{Path: "/sys/fs/cgroup", V2: true}},
		},
		"hybrid": {
			"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n" +
				"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n" +
				"40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n" +
				"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n" +
				"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n" +
				"38 31 0:35 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio\n",
			[]Mount{{Path: "/sys/fs/cgroup/unified", V2: true}, v1("/sys/fs/cgroup/cpu,cpuacct", "cpu", "cpuacct"), v1("/sys/fs/cgroup/memory", "memory")},
		},
		"v1, one controller each": {
			"32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n" +
				"33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct\n" +
				"35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n",
			[]Mount{v1("/sys/fs/cgroup/cpu", "cpu"), v1("/sys/fs/cgroup/cpuacct", "cpuacct"), v1("/sys/fs/cgroup/memory", "memory")},
		},
		"mounted twice, and a path with a space": {
			"30 23 0:26 / /a\\040b rw - cgroup2 cgroup2 rw\n31 23 0:26 / /c rw - cgroup2 cgroup2 rw\n",
			[]Mount{{Path: "/a b", V2: true}},
		},
		"nothing": {"", nil},
		"broken":  {"30 23 0:26 - cgroup2\n - \nx - cgroup2 a b\n30 23 0:26 / /x rw - cgroup2\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Mounts(c.mountinfo)); diff != "" {
				t.Errorf("mounts (-want +got):\n%s", diff)
			}
		})
	}
}
