package redirect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"github.com/underlane/underlane/pkg/redirect/netns/nstest"
)

// hostRig is a host with two enrolled pods, a and b, whose packets it routes, or bridges.
type hostRig struct {
	d         *Datapath
	options   Options
	host      *netns.NS
	ns        [2]*netns.NS
	pods      [2]*Pod
	redirects *Redirects
}

// hostAddrs are the addresses of a and b in both families.
var hostAddrs = [2][2]netip.Addr{
	{netip.MustParseAddr("10.98.0.2"), netip.MustParseAddr("fd98::2")},
	{netip.MustParseAddr("10.98.0.3"), netip.MustParseAddr("fd98::3")},
}

func vethName(i int) string { return "veth" + strconv.Itoa(i) }

// requireRedirects skips a test where the kernel has no tcx.
func requireRedirects(t testing.TB) {
	nstest.RequireRoot(t)
	if err := TryRedirects(); errors.Is(err, ebpf.ErrNotSupported) {
		t.Skipf("this kernel has no tcx (Linux 6.6): %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
}

func newHostRig(t testing.TB, bridged bool, mtu [2]int) *hostRig {
	requireRedirects(t)
	r := &hostRig{host: nstest.New(t), ns: [2]*netns.NS{nstest.New(t), nstest.New(t)}}
	r.forward(t, !bridged)
	if bridged {
		inNS(t, r.host, func(h *netlink.Handle) error {
			no := false
			if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}, MulticastSnooping: &no}); err != nil {
				return err
			}
			_, err := up(h, "br0")
			return err
		})
	}
	for i := range r.ns {
		r.plug(t, i, bridged, mtu[i])
	}
	r.options = Options{
		CgroupRoot: nstest.Cgroup(t), PinRoot: nstest.BPFFS(t), HeartbeatTimeout: time.Minute,
		HostNetns: "/proc/self/fd/" + strconv.Itoa(r.host.FD()),
	}
	r.start(t)
	return r
}

// start loads the datapath and enrols the pods.
func (r *hostRig) start(t testing.TB) {
	t.Helper()
	d, err := Load(r.options)
	if err != nil {
		t.Fatal(err)
	}
	r.d = d
	t.Cleanup(func() { d.Cleanup() })
	for i := range r.ns {
		ns, err := netns.Open("/proc/self/fd/" + strconv.Itoa(r.ns[i].FD()))
		if err != nil {
			t.Fatal(err)
		}
		w := &mesh.Workload{
			UID: fmt.Sprint("uid-", i), Namespace: "test", Name: string(rune('a' + i)), Addrs: hostAddrs[i][:],
			Settings: mesh.Settings{Policy: mesh.PolicyStrict},
		}
		if r.pods[i], err = d.Enroll(w, ns); err != nil {
			t.Fatal(err)
		}
	}
	if r.redirects, err = NewRedirects(d); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.redirects.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		r.redirects.Close()
	})
}

func inNS(t testing.TB, ns *netns.NS, f func(h *netlink.Handle) error) {
	t.Helper()
	h, err := netlink.NewHandleAt(vns.NsHandle(ns.FD()), unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := f(h); err != nil {
		t.Fatal(err)
	}
}

// forward has the host route packets, or not.
func (r *hostRig) forward(t testing.TB, on bool) {
	t.Helper()
	err := r.host.Do(func() error {
		return errors.Join(
			os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte(strconv.Itoa(int(flag(on)))), 0),
			os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte(strconv.Itoa(int(flag(on)))), 0))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// plug connects a pod as the CNI plugin ptp does, or as bridge does.
func (r *hostRig) plug(t testing.TB, i int, bridged bool, mtu int) {
	t.Helper()
	gateways := []netip.Addr{netip.MustParseAddr("169.254.1.1"), netip.MustParseAddr("fd98:1::1")}
	inNS(t, r.host, func(h *netlink.Handle) error {
		err := h.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: vethName(i), MTU: mtu}, PeerName: "eth0", PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(r.ns[i].FD()),
		})
		if err != nil {
			return err
		}
		end, err := h.LinkByName(vethName(i))
		if err != nil {
			return err
		}
		if bridged {
			br, err := h.LinkByName("br0")
			if err == nil {
				err = h.LinkSetMaster(end, br)
			}
			if err != nil {
				return err
			}
		}
		if _, err := up(h, vethName(i)); err != nil || bridged {
			return err
		}
		for f, gw := range gateways {
			if err := addPrefix(h, end, netip.PrefixFrom(gw, gw.BitLen())); err != nil {
				return err
			}
			if err := h.RouteAdd(&netlink.Route{LinkIndex: end.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: prefixNet(hostAddrs[i][f], hostAddrs[i][f].BitLen())}); err != nil {
				return err
			}
		}
		return nil
	})
	inNS(t, r.ns[i], func(h *netlink.Handle) error {
		eth, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		for f, own := range hostAddrs[i] {
			bits := own.BitLen()
			if bridged {
				bits -= 8
			}
			if err := addPrefix(h, eth, netip.PrefixFrom(own, bits)); err != nil {
				return err
			}
			if f == 0 {
				if _, err := up(h, "eth0"); err != nil {
					return err
				}
			}
			if bridged {
				continue
			}
			gw := gateways[f]
			if err := h.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: prefixNet(gw, gw.BitLen())}); err != nil {
				return err
			}
			if err := h.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: gw.AsSlice(), Dst: prefixNet(netip.PrefixFrom(gw, 0).Masked().Addr(), 0)}); err != nil {
				return err
			}
		}
		return nil
	})
}

func prefixNet(a netip.Addr, bits int) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, a.BitLen())}
}

func addPrefix(h *netlink.Handle, l netlink.Link, p netip.Prefix) error {
	addr := &netlink.Addr{IPNet: prefixNet(p.Addr(), p.Bits())}
	if p.Addr().Is6() {
		addr.Flags = unix.IFA_F_NODAD
	}
	return h.AddrAdd(l, addr)
}

// want has both pods' packets redirected, or neither's, and waits until it is so.
func (r *hostRig) want(t testing.TB, on bool) {
	t.Helper()
	cookies := map[uint64]bool{}
	if on {
		cookies[r.pods[0].Cookie()], cookies[r.pods[1].Cookie()] = true, true
	}
	r.redirects.Want(cookies)
	r.await(t, len(cookies), "")
}

// await waits until so many pods are redirected, and, if why is not "", one is refused for it.
func (r *hostRig) await(t testing.TB, pods int, why string) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		refused := strings.Join(r.redirects.Refused(), "; ")
		if r.redirects.Len() == pods && strings.Contains(refused, why) && (why != "" || refused == "") {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("%d pods are redirected, refused: %q; want %d, refused for %q", r.redirects.Len(), refused, pods, why)
		}
	}
}

// open makes a connection from a to b on a kernel path.
func (r *hostRig) open(t testing.TB, family int, port uint16) (client, server *rawio.Conn) {
	t.Helper()
	endpoint := netip.AddrPortFrom(hostAddrs[1][family], port)
	app := listen(t, r.ns[1], endpoint.Addr(), port)
	if err := r.d.SetPath(Path{PathKey{r.pods[0].Cookie(), endpoint}, r.pods[1].Cookie(), endpoint}); err != nil {
		t.Fatal(err)
	}
	client = mustDial(t, r.ns[0], endpoint)
	server = accept(t, app)
	for _, c := range []*rawio.Conn{client, server} {
		if err := c.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return client, server
}

// talk sends much both ways, and compares it.
func talk(t testing.TB, a, b *rawio.Conn) {
	t.Helper()
	for range 4 {
		if err := errors.Join(pour(a, b), pour(b, a)); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *hostRig) count(t testing.TB, name string) uint64 {
	t.Helper()
	counts, err := r.d.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return counts[name]
}

// TestRedirects: connections of the kernel path get their bytes from one pod to the other past
// a host that forwards nothing, in both families, large ones, with other MTUs, with checksums
// that the sender computes, and their ends.
func TestRedirects(t *testing.T) {
	for name, tc := range map[string]struct {
		bridged   bool
		mtu       [2]int
		checksums bool
	}{
		"routed":              {mtu: [2]int{1500, 1500}},
		"bridged":             {bridged: true, mtu: [2]int{1500, 1500}},
		"other MTUs":          {mtu: [2]int{9000, 1280}},
		"no checksum offload": {mtu: [2]int{1500, 1500}, checksums: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newHostRig(t, tc.bridged, tc.mtu)
			if tc.checksums {
				r.computeChecksums(t)
			}
			for f, family := range []string{"IPv4", "IPv6"} {
				client, server := r.open(t, f, 8080) // before: by way of the host
				talk(t, client, server)
				client.Close()
				server.Close()
				if n := r.count(t, "kernel-path-redirected"); n != uint64(2*f) {
					t.Fatalf("%s: got %d redirected connections before any is to be", family, n)
				}
				r.want(t, true)
				r.blocked(t, tc.bridged, true)
				client, server = r.open(t, f, 8081)
				talk(t, client, server)
				if err := client.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if _, err := server.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("%s: got %v at the server, want the end", family, err)
				}
				if err := pour(server, client); err != nil {
					t.Errorf("%s: after a half-close: %v", family, err)
				}
				if err := errors.Join(server.Reset(), server.Close()); err != nil {
					t.Fatal(err)
				}
				if _, err := client.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
					t.Errorf("%s: got %v at the client, want a reset", family, err)
				}
				// Nobody listens: the refusal comes back the same way.
				if err := r.d.SetPath(Path{PathKey{r.pods[0].Cookie(), netip.AddrPortFrom(hostAddrs[1][f], 9)}, r.pods[1].Cookie(), netip.AddrPortFrom(hostAddrs[1][f], 9)}); err != nil {
					t.Fatal(err)
				}
				if _, err := dial(t, r.ns[0], netip.AddrPortFrom(hostAddrs[1][f], 9)); !errors.Is(err, unix.ECONNREFUSED) {
					t.Errorf("%s: got %v where nobody listens, want ECONNREFUSED", family, err)
				}
				if n := r.count(t, "kernel-path-redirected"); n != uint64(2*f+2) {
					t.Errorf("%s: got %d redirected connections, want %d", family, n, 2*f+2)
				}
				r.blocked(t, tc.bridged, false)
				r.want(t, false)
			}
			if n := r.count(t, "kernel-path-redirect-left"); n != 0 {
				t.Errorf("got %d connections that have left, want none", n)
			}
		})
	}
}

// blocked has the host forward nothing.
func (r *hostRig) blocked(t testing.TB, bridged, on bool) {
	t.Helper()
	if !bridged {
		r.forward(t, !on)
		return
	}
	inNS(t, r.host, func(h *netlink.Handle) error {
		for i := range r.ns {
			end, err := h.LinkByName(vethName(i))
			if err != nil {
				return err
			}
			if err := h.LinkSetIsolated(end, on); err != nil { // ports that do not see each other
				return err
			}
		}
		return nil
	})
}

// computeChecksums has the pods compute the checksums of what they send.
func (r *hostRig) computeChecksums(t testing.TB) {
	t.Helper()
	for _, ns := range r.ns {
		err := ns.Do(func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return setChecksumOffload(fd, "eth0", false)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestRedirectsLeave: a connection goes on by way of the host when its packets are not to be
// redirected any more, in both directions, and does not come back; nor does one whose agent
// has ended.
func TestRedirectsLeave(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, r *hostRig){
		"not wanted":      func(t *testing.T, r *hostRig) { r.want(t, false) },
		"pod withdrawn":   func(t *testing.T, r *hostRig) { r.d.Withdraw("uid-1") },
		"veth forgotten":  func(t *testing.T, r *hostRig) { r.d.dropVeth(r.pods[0].Cookie()) },
		"agent is silent": func(t *testing.T, r *hostRig) { r.silent(t) },
		"cleaned up":      func(t *testing.T, r *hostRig) { r.d.Cleanup() },
	} {
		t.Run(name, func(t *testing.T) {
			r := newHostRig(t, false, [2]int{1500, 1500})
			r.want(t, true)
			client, server := r.open(t, 0, 8080)
			idle, other := r.open(t, 0, 8081)
			talk(t, client, server)
			r.forward(t, false)
			talk(t, client, server)
			r.forward(t, true)
			end(t, r)
			talk(t, client, server)
			talk(t, other, idle)                              // the server speaks first
			if name != "cleaned up" && name != "not wanted" { // then nothing sees its packets
				if n := r.count(t, "kernel-path-redirect-left"); n == 0 {
					t.Error("got no connection that has left")
				}
			}
			if name != "not wanted" {
				return
			}
			r.want(t, true)
			r.forward(t, false)
			client.SetDeadline(time.Now().Add(300 * time.Millisecond))
			server.SetDeadline(time.Now().Add(300 * time.Millisecond))
			if err := pour(client, server); err == nil {
				t.Error("a connection that has left is redirected again")
			}
			if n := r.count(t, "kernel-path-redirect-left"); n != 1 {
				t.Errorf("got %d connections that have left, want 1", n)
			}
		})
	}
}

// silent has the agent's heartbeat become old.
func (r *hostRig) silent(t *testing.T) {
	t.Helper()
	r.d.heart.Stop()
	st := r.d.agentState()
	st.HeartbeatNs -= 2 * st.HeartbeatTimeoutNs
	if err := r.d.objs.Agent.Put(uint32(0), &st); err != nil {
		t.Fatal(err)
	}
}

// TestRedirectsTakenOver: the next agent finds what the one before has left. If that has ended,
// its connections leave; what is not wanted any more is gone; and the pins go with the pods.
func TestRedirectsTakenOver(t *testing.T) {
	r := newHostRig(t, false, [2]int{1500, 1500})
	r.want(t, true)
	client, server := r.open(t, 0, 8080)
	talk(t, client, server)
	pins := func() (n int) {
		list, err := Pins(r.options.PinRoot)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list {
			if strings.Contains(p, "redirect_") {
				n++
			}
		}
		return n
	}
	if n := pins(); n != 2 {
		t.Fatalf("got %d pinned links, want 2", n)
	}
	r.silent(t)
	if err := r.d.Close(); err != nil {
		t.Fatal(err)
	}
	talk(t, client, server)
	r.start(t)
	talk(t, client, server)
	r.redirects.Want(map[uint64]bool{r.pods[0].Cookie(): true})
	r.await(t, 1, "")
	if n := pins(); n != 1 {
		t.Errorf("got %d pinned links with one pod, want 1", n)
	}
	r.want(t, true)
	again, there := r.open(t, 0, 8081)
	r.forward(t, false)
	talk(t, again, there)
	r.d.Withdraw("uid-0")
	if n := pins(); n != 1 {
		t.Errorf("got %d pinned links after a pod was withdrawn, want 1", n)
	}
	r.d.DropRedirects()
	if n := pins(); n != 0 {
		t.Errorf("got %d pinned links after all were dropped, want none", n)
	}
}

// TestRedirectsRefuse: a pod is left out where something else wants to see its packets, also if
// it comes later; and redirected when that is gone.
func TestRedirectsRefuse(t *testing.T) {
	r := newHostRig(t, false, [2]int{1500, 1500})
	pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "other", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.LoadImm(asm.R0, -1, asm.DWord), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer pass.Close()
	attach := func(at ebpf.AttachType) func() func() {
		return func() func() {
			var l link.Link
			err := r.host.Do(func() (err error) {
				end, err := net.InterfaceByName(vethName(0))
				if err != nil {
					return err
				}
				l, err = link.AttachTCX(link.TCXOptions{Interface: end.Index, Program: pass, Attach: at})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return func() { l.Close() }
		}
	}
	qdisc := func(make func(netlink.QdiscAttrs) netlink.Qdisc) func() func() {
		return func() func() {
			var q netlink.Qdisc
			inNS(t, r.host, func(h *netlink.Handle) error {
				end, err := h.LinkByName(vethName(0))
				if err != nil {
					return err
				}
				q = make(netlink.QdiscAttrs{LinkIndex: end.Attrs().Index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(1, 0)})
				return h.QdiscAdd(q)
			})
			return func() { inNS(t, r.host, func(h *netlink.Handle) error { return h.QdiscDel(q) }) }
		}
	}
	for name, tc := range map[string]struct {
		add func() (remove func())
		why string
	}{
		"a program at ingress": {attach(ebpf.AttachTCXIngress), "the program other is attached"},
		"a program at egress":  {attach(ebpf.AttachTCXEgress), "the program other is attached"},
		"clsact": {qdisc(func(a netlink.QdiscAttrs) netlink.Qdisc {
			a.Parent, a.Handle = netlink.HANDLE_CLSACT, netlink.MakeHandle(0xffff, 0)
			return &netlink.Clsact{QdiscAttrs: a}
		}), "qdisc clsact"},
		"a queue": {qdisc(func(a netlink.QdiscAttrs) netlink.Qdisc {
			return &netlink.GenericQdisc{QdiscAttrs: a, QdiscType: "pfifo"}
		}), "qdisc pfifo"},
	} {
		t.Run(name, func(t *testing.T) {
			remove := tc.add()
			r.redirects.Want(map[uint64]bool{r.pods[0].Cookie(): true, r.pods[1].Cookie(): true})
			r.await(t, 1, tc.why)
			remove()
			r.redirects.settle(t.Context(), true)
			r.await(t, 2, "")
			remove = tc.add()
			r.redirects.settle(t.Context(), true)
			r.await(t, 1, tc.why)
			remove()
			r.want(t, false)
		})
	}
}

// TestRedirectsOnlyVeth: a pod whose interface is no veth of the host is left out.
func TestRedirectsOnlyVeth(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	redirects, err := NewRedirects(r.d)
	if err != nil {
		t.Fatal(err)
	}
	defer redirects.Close()
	redirects.Want(map[uint64]bool{r.enrolled.Cookie(): true, 7: true})
	redirects.settle(t.Context(), false)
	if got := strings.Join(redirects.Refused(), "; "); redirects.Len() != 0 || !strings.Contains(got, "test/a: the other end of the pod's veth is not in the host's namespace") {
		t.Errorf("%d pods are redirected, refused: %q", redirects.Len(), got)
	}
}

// setChecksumOffload is ethtool -K NAME tx on or off.
func setChecksumOffload(fd int, name string, on bool) error {
	value := struct{ command, on uint32 }{command: 0x17, on: uint32(flag(on))} // ETHTOOL_STXCSUM
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return os.NewSyscallError("ioctl SIOCETHTOOL", errno)
	}
	return nil
}
