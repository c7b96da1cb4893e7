package host

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/lab/layout"
)

// beside runs the test once more, in a process with a mount namespace of its own in which
// nothing of the machine is in /run. It returns false there.
func beside(t *testing.T) bool {
	t.Helper()
	needRoot(t)
	const inside = "UNDERLANE_TEST_MOUNTS"
	if os.Getenv(inside) != "" {
		// A mount of the machine's would be hidden, but still listed.
		for unix.Unmount(layout.NetnsDir, unix.MNT_DETACH) == nil {
		}
		if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		return false
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS} // with private mounts
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in a mount namespace of its own: %v\n%s", err, out)
	}
	return true
}

func ipNetns(t *testing.T, verb, name string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ip", "netns", verb, name).CombinedOutput(); err != nil {
		t.Errorf("ip netns %s %s: %v\n%s", verb, name, err, out)
	}
}

// netnsMounts returns how many mounts lie at dir itself, and how many there are on path.
func netnsMounts(t *testing.T, dir, path string) (at, on int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		switch strings.Fields(line)[4] {
		case dir:
			at++
		case path:
			on++
		}
	}
	return at, on
}

// TestNetnsBesideIP checks that a namespace can be removed after `ip netns add` has run on
// the same machine, and that both find the names of the other.
func TestNetnsBesideIP(t *testing.T) {
	if beside(t) {
		return
	}
	path := filepath.Join(layout.NetnsDir, "ours")
	if err := NewNetns(path); err != nil {
		t.Fatal(err)
	}
	ipNetns(t, "add", "theirs")
	ipNetns(t, "pids", "ours")
	if err := InNetns(filepath.Join(layout.NetnsDir, "theirs"), func() error { return nil }); err != nil {
		t.Error(err)
	}
	if at, on := netnsMounts(t, layout.NetnsDir, path); at != 1 || on != 1 {
		t.Errorf("%d mounts at %s and %d on %s, want one each", at, layout.NetnsDir, on, path)
	}
	if err := DropNetns(path); err != nil {
		t.Errorf("a name beside one of ip: %v", err)
	}
	ipNetns(t, "delete", "theirs")
	if names, err := os.ReadDir(layout.NetnsDir); err != nil || len(names) > 0 {
		t.Errorf("%v are left in %s, error %v; want none", names, layout.NetnsDir, err)
	}
}

// TestNetnsAtOnce checks that many namespaces are made at the same time, by us and by ip,
// with one mount at their directory.
func TestNetnsAtOnce(t *testing.T) {
	if beside(t) {
		return
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if err := NewNetns(filepath.Join(layout.NetnsDir, fmt.Sprint("ours-", i))); err != nil {
				t.Error(err)
			}
		})
		all.Go(func() { ipNetns(t, "add", fmt.Sprint("theirs-", i)) })
	}
	all.Wait()
	if at, _ := netnsMounts(t, layout.NetnsDir, ""); at != 1 {
		t.Errorf("%d mounts at %s, want one", at, layout.NetnsDir)
	}
	for i := range 8 {
		if err := DropNetns(filepath.Join(layout.NetnsDir, fmt.Sprint("ours-", i))); err != nil {
			t.Error(err)
		}
		ipNetns(t, "delete", fmt.Sprint("theirs-", i))
	}
}

// TestNetnsOfOthers checks that no mount is put over names which others have made without
// one: they could not remove them any more.
func TestNetnsOfOthers(t *testing.T) {
	if beside(t) {
		return
	}
	theirs, ours := filepath.Join(layout.NetnsDir, "theirs"), filepath.Join(layout.NetnsDir, "ours")
	if err := os.MkdirAll(layout.NetnsDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(theirs, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/proc/self/ns/net", theirs, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := NewNetns(ours); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{theirs, ours} {
		if err := DropNetns(path); err != nil {
			t.Error(err)
		}
	}
}
