package kernel

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseHierarchies(t *testing.T) {
	for name, test := range map[string]struct {
		mountinfo string
		want      []Hierarchy
	}{
		"hybrid": {
			mountinfo: `24 1 0:22 / /sys rw - sysfs sysfs rw
30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
34 30 0:27 / /elsewhere rw,relatime - cgroup cgroup rw,cpu,cpuacct
`,
			want: []Hierarchy{
				{Mount: "/sys/fs/cgroup/cpu,cpuacct", Options: []string{"cpu", "cpuacct"}},
				{Mount: "/sys/fs/cgroup/systemd", Options: []string{"none", "name=systemd"}},
				{Mount: "/sys/fs/cgroup/unified", V2: true},
			},
		},
		"version 2": {
			mountinfo: "30 24 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup rw,nsdelegate,memory_recursiveprot\n",
			want:      []Hierarchy{{Mount: "/sys/fs/cgroup", V2: true}},
		},
		"not a mount": {mountinfo: "30 24 -\ncgroup2\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, parseHierarchies(test.mountinfo)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestRemoveCgroup checks that a process in a child cgroup is killed with the cgroup,
// and that no directory is left in any hierarchy.
func TestRemoveCgroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("cgroups are root's")
	}
	name := fmt.Sprintf("ulc-test-%d", os.Getpid())
	t.Cleanup(func() { RemoveCgroup(name) })
	hs, err := Hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, h := range hs {
		dir, err := h.MakeCgroup(name + "/child")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0); err != nil {
			t.Fatalf("join %s: %v", dir, err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := RemoveCgroup(name); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		cmd.Process.Kill()
		t.Error("the process still runs, want it killed")
	}
	for _, h := range hs {
		if _, err := os.Stat(filepath.Join(h.Mount, name)); !os.IsNotExist(err) {
			t.Errorf("%s: got %v, want it removed", filepath.Join(h.Mount, name), err)
		}
	}
	if err := RemoveCgroup(name); err != nil {
		t.Errorf("removing it a second time: got %v, want no error", err)
	}
}
