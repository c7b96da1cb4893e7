package redirect

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/redirect/netns/nstest"
	"golang.org/x/sys/unix"
)

const (
	v1Line     = "34 25 0:29 / /sys/fs/cgroup/memory rw,relatime shared:12 - cgroup cgroup rw,memory\n"
	hybridLine = "35 25 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
	v2Line     = "36 25 0:30 /../.. /sys/fs/cgroup rw,nosuid shared:9 master:3 - cgroup2 cgroup rw,nsdelegate\n"
	otherLine  = "37 25 0:30 / /run/cilium/cgroupv2 rw - cgroup2 none rw\n"
	named      = "38 25 0:31 / /mnt/cgroup2 rw - tmpfs cgroup2 rw\n"
)

func TestFindCgroup2(t *testing.T) {
	for _, c := range []struct{ mountinfo, want string }{
		{v1Line + hybridLine, "/sys/fs/cgroup/unified"},
		{otherLine + v2Line, "/sys/fs/cgroup"},
		{v1Line + otherLine, "/run/cilium/cgroupv2"},
		{v1Line + named, ""},
		{"nonsense\n", ""},
	} {
		if got := findCgroup2(strings.NewReader(c.mountinfo)); got != c.want {
			t.Errorf("%q: %q, want %q", c.mountinfo, got, c.want)
		}
	}
}

// A container's /sys/fs/cgroup is often its own cgroup: hooks there would see
// nobody's traffic.
func TestTheHostsCgroupIsNotTheContainers(t *testing.T) {
	proc := t.TempDir()
	mount := filepath.Join(t.TempDir(), "cgroup") // of the host; the container has none, or another
	write := func(path, text string) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	hosts := filepath.Join(proc, "1/root", mount)
	write(filepath.Join(proc, "1/mountinfo"), strings.Replace(v2Line, "/sys/fs/cgroup", mount, 1))
	if _, err := hostCgroup(proc); err == nil {
		t.Error("a host's cgroup that cannot be reached was found")
	}
	write(filepath.Join(hosts, "cgroup.procs"), "")
	for range 2 {
		if got, err := hostCgroup(proc); err != nil || got != hosts {
			t.Errorf("%q, %v, want %q", got, err, hosts)
		}
		write(filepath.Join(mount, "cgroup.procs"), "") // now the container has another
	}
	if err := os.RemoveAll(hosts); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(mount, hosts); err != nil {
		t.Fatal(err)
	}
	if got, err := hostCgroup(proc); err != nil || got != mount {
		t.Errorf("%q, %v, want the same directory by its short name %q", got, err, mount)
	}
}

func TestOnThreadLeavesNothingBehind(t *testing.T) {
	nstest.RequireRoot(t)
	before, err := os.Readlink("/proc/self/ns/uts")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := onThread(func() error { return unix.Unshare(unix.CLONE_NEWUTS) }); err != nil {
			t.Fatal(err)
		}
	}
	if own, _ := os.Readlink("/proc/self/ns/uts"); own != before {
		t.Error("the process's main thread is elsewhere")
	}
}

func TestPinsElsewhereNeedTheirOwnFileSystem(t *testing.T) {
	if err := ensureBPFFS("/nonexistent", t.TempDir()); err != nil {
		t.Errorf("nothing is to be mounted for a directory of the user's: %v", err)
	}
}

// What was mounted for a v1 host is taken away, mounted or not.
func TestDropCgroup2(t *testing.T) {
	nstest.RequireRoot(t)
	for _, mounted := range []bool{true, false} {
		dir := filepath.Join(t.TempDir(), "cgroup")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if mounted {
			if err := unix.Mount("none", dir, "cgroup2", 0, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		}
		for range 2 { // the second finds nothing
			if err := dropCgroup2(dir); err != nil {
				t.Error(err)
			}
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("mounted %v: %s is left", mounted, dir)
		}
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "somebody's"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := dropCgroup2(full); err == nil {
		t.Error("removed a directory that is not empty")
	}
}
