package podns

import (
	"net/netip"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/redirect/netns"
	"github.com/underlane/underlane/pkg/redirect/netns/nstest"
)

// pod is a process in a network namespace of its own with addr, in cgroup.
func pod(t *testing.T, cgroup string, addr string) *netns.NS {
	t.Helper()
	dir, err := unix.Open(cgroup, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET, UseCgroupFD: true, CgroupFD: dir,
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	ns, err := netns.Open(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "ns/net"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	nstest.Join(t, ns, nstest.New(t), []netip.Prefix{netip.MustParsePrefix(addr)}, nil)
	return ns
}

func TestFindLooksOnlyBelowItsCgroup(t *testing.T) {
	nstest.RequireRoot(t)
	root := nstest.Cgroup(t)
	nodes := []string{filepath.Join(root, "node-1"), filepath.Join(root, "node-2")}
	pods := make([]*netns.NS, len(nodes))
	for i, node := range nodes {
		below := filepath.Join(node, "pods")
		for _, dir := range []string{node, below} {
			if err := unix.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Rmdir(dir) })
		}
		pods[i] = pod(t, below, "10.250.9.7/24")
	}
	addrs := []netip.Addr{netip.MustParseAddr("10.250.9.7")}
	for i, node := range nodes {
		got, err := New("/proc", node).Find("uid", addrs)
		if err != nil {
			t.Fatal(err)
		}
		defer got.Close()
		if got.Cookie() != pods[i].Cookie() {
			t.Errorf("in %s: found the other node's pod of the same address", node)
		}
	}
	_, err := New("/proc", nodes[0]).Find("uid", []netip.Addr{netip.MustParseAddr("10.250.9.8")})
	if err == nil || !strings.Contains(err.Error(), "10.250.9.8") {
		t.Errorf("an address that nobody has: %v", err)
	}
	if got, err := New("/proc", "").Find("uid", addrs); err != nil {
		t.Errorf("without a cgroup: %v", err)
	} else {
		got.Close()
	}
}

// After the node was started anew pods come back under each other's addresses,
// before anybody has said so.
func TestAnotherPodsAddress(t *testing.T) {
	nstest.RequireRoot(t)
	const uid, other = "0b9c6a52-4b3e-4f0e-9a55-2f7f3cbd7e01", "d3a1c9a0-77aa-4a26-8e93-51b5a0a4a002"
	addrs := []netip.Addr{netip.MustParseAddr("10.250.9.7")}
	for _, name := range []string{"pod" + uid, "kubepods-burstable-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice"} {
		t.Run(name, func(t *testing.T) {
			root := nstest.Cgroup(t)
			dir := filepath.Join(root, name)
			if err := unix.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Rmdir(dir) })
			its := pod(t, dir, "10.250.9.7/24")
			if ns, err := New("/proc", root).Find(other, addrs); err == nil {
				ns.Close()
				t.Error("found another pod's namespace")
			}
			ns, err := New("/proc", root).Find(uid, addrs)
			if err != nil {
				t.Fatal(err)
			}
			defer ns.Close()
			if ns.Cookie() != its.Cookie() {
				t.Error("found another namespace")
			}
		})
	}
}
