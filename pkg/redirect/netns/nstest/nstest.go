// Package nstest makes network namespaces, links and a cgroup for tests. It removes
// them when the test ends.
package nstest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/redirect/netns"
	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// RequireRoot skips a test that does not run as root. scripts/test.sh lists the
// packages that have such tests.
func RequireRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root: network namespaces and eBPF")
	}
}

// New makes a network namespace with loopback up.
func New(tb testing.TB) *netns.NS {
	tb.Helper()
	ns, err := netns.New()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ns.Close() })
	Loopback(tb, ns)
	return ns
}

// Loopback sets ns's loopback interface up.
func Loopback(tb testing.TB, ns *netns.NS) {
	tb.Helper()
	in(tb, ns, func(h *netlink.Handle) error {
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		return h.LinkSetUp(lo)
	})
}

// Join connects two namespaces by a veth pair, eth0 at both ends. Each gets its
// addresses with a prefix that covers both, and no default route.
func Join(tb testing.TB, a, b *netns.NS, addrsA, addrsB []netip.Prefix) {
	tb.Helper()
	in(tb, a, func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0",
			PeerNamespace: netlink.NsFd(b.FD()),
		})
	})
	for _, end := range []struct {
		ns    *netns.NS
		addrs []netip.Prefix
	}{{a, addrsA}, {b, addrsB}} {
		in(tb, end.ns, func(h *netlink.Handle) error {
			eth, err := h.LinkByName("eth0")
			if err != nil {
				return err
			}
			for _, p := range end.addrs {
				if err := add(h, eth, p); err != nil {
					return err
				}
			}
			return h.LinkSetUp(eth)
		})
	}
}

// AddAddr gives eth0 of a namespace another address, and waits until it is in use.
func AddAddr(tb testing.TB, ns *netns.NS, p netip.Prefix) {
	tb.Helper()
	in(tb, ns, func(h *netlink.Handle) error {
		eth, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		if err := add(h, eth, p); err != nil {
			return err
		}
		return awaitLocal(h, p.Addr())
	})
}

// awaitLocal waits until the kernel treats addr as an address of the namespace. For an
// IPv6 address this is a moment after it was added; until then the kernel looks for a
// neighbour that has it.
func awaitLocal(h *netlink.Handle, addr netip.Addr) error {
	for limit := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		routes, err := h.RouteGet(addr.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("%s is not the namespace's own: %v, %v", addr, routes, err)
		}
	}
}

func add(h *netlink.Handle, eth netlink.Link, p netip.Prefix) error {
	addr := &netlink.Addr{
		IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
	}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD // usable at once
	}
	if err := h.AddrAdd(eth, addr); err != nil {
		return fmt.Errorf("add %s: %w", p, err)
	}
	return nil
}

// Index returns the interface index of eth0 in a namespace.
func Index(tb testing.TB, ns *netns.NS) (index int) {
	tb.Helper()
	in(tb, ns, func(h *netlink.Handle) error {
		eth, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		index = eth.Attrs().Index
		return nil
	})
	return index
}

func in(tb testing.TB, ns *netns.NS, f func(h *netlink.Handle) error) {
	tb.Helper()
	h, err := netlink.NewHandleAt(vns.NsHandle(ns.FD()), unix.NETLINK_ROUTE)
	if err != nil {
		tb.Fatalf("netlink: %v", err)
	}
	defer h.Close()
	if err := f(h); err != nil {
		tb.Fatalf("set up network namespace: %v", err)
	}
}

// Cgroup makes a cgroup v2 directory and moves this process into it until the test
// ends. Attach programs to it, never to the root.
func Cgroup(tb testing.TB) string {
	tb.Helper()
	root := cgroup2(tb)
	before := own(tb)
	dir := ownDir(root, os.Remove)
	if err := os.Mkdir(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	move := func(dir string) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			tb.Errorf("move to cgroup %s: %v", dir, err)
		}
	}
	move(dir)
	tb.Cleanup(func() {
		move(filepath.Join(root, before))
		if err := os.Remove(dir); err != nil {
			tb.Errorf("remove test cgroup: %v", err)
		}
	})
	return dir
}

const dirPrefix = "underlane-test-"

// ownDir returns the path of this process's directory in parent. It removes the
// directories of processes that were killed and so could not clean up.
func ownDir(parent string, remove func(string) error) string {
	dirs, _ := filepath.Glob(filepath.Join(parent, dirPrefix+"*"))
	for _, dir := range dirs {
		pid := strings.TrimPrefix(filepath.Base(dir), dirPrefix)
		if _, err := os.Stat(filepath.Join("/proc", pid)); os.IsNotExist(err) {
			_ = remove(dir) // if it fails, the next test process tries again
		}
	}
	return filepath.Join(parent, dirPrefix+strconv.Itoa(os.Getpid()))
}

func cgroup2(tb testing.TB) string {
	tb.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[2] == "cgroup2" {
			return f[1]
		}
	}
	tb.Fatal("no cgroup2 file system is mounted")
	return ""
}

// own returns the path of the process's cgroup in the v2 tree.
func own(tb testing.TB) string {
	tb.Helper()
	list, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path
		}
	}
	return "/"
}

// BPFFS returns the path of a directory on the bpf file system, which does not exist
// yet and is removed when the test ends. It mounts the file system if it is not mounted.
func BPFFS(tb testing.TB) string {
	tb.Helper()
	const mount = "/sys/fs/bpf"
	var st unix.Statfs_t
	if err := unix.Statfs(mount, &st); err != nil {
		tb.Fatal(err)
	}
	if st.Type != unix.BPF_FS_MAGIC {
		if err := unix.Mount("bpf", mount, "bpf", 0, ""); err != nil {
			tb.Fatalf("mount bpf file system: %v", err)
		}
	}
	dir := ownDir(mount, os.RemoveAll)
	tb.Cleanup(func() {
		if _, err := os.Stat(dir); err == nil {
			os.RemoveAll(dir)
		}
	})
	return dir
}

// Unjoin removes eth0 of a, and so the veth pair that Join has made.
func Unjoin(tb testing.TB, a *netns.NS) {
	tb.Helper()
	in(tb, a, func(h *netlink.Handle) error {
		eth, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		return h.LinkDel(eth)
	})
}
