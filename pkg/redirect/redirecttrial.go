package redirect

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// trialLimit bounds a trial. It takes some 50 ms on an idle machine.
const trialLimit = 10 * time.Second

// trialVolume is in bytes: many segments, which the kernel offloads.
const trialVolume = 512 << 10

// TryRedirects finds out whether this kernel redirects packets from one pod's veth into another
// pod (tcx, Linux 6.6), in namespaces of its own. It returns why not, or nil. It must be called
// before the process loses the right to make namespaces (confine.Process).
func TryRedirects() error {
	t, err := newTrial()
	if err != nil {
		return fmt.Errorf("redirect packets between pods, as a trial: %w", err)
	}
	defer t.close()
	for _, pods := range trialNets {
		client, server := pods[0].Addr(), pods[1].Addr()
		if err := t.connect(netip.AddrPortFrom(client, 40001), netip.AddrPortFrom(server, 40002)); err != nil {
			return fmt.Errorf("redirect packets between pods, as a trial from %s to %s: %w", client, server, err)
		}
	}
	return nil
}

// trial is a host with two pods, which nothing connects but the program.
type trial struct {
	host  *netns.NS
	pods  [2]*netns.NS
	ends  [2]int // the host's ends of their veths
	maps  map[string]*ebpf.Map
	prog  *ebpf.Program
	links []link.Link
}

func newTrial() (*trial, error) {
	t := &trial{maps: map[string]*ebpf.Map{}}
	if err := t.make(); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

func (t *trial) make() (err error) {
	if err := t.load(); err != nil {
		return err
	}
	for _, ns := range []**netns.NS{&t.host, &t.pods[0], &t.pods[1]} {
		if *ns, err = netns.New(); err != nil {
			return err
		}
	}
	for i := range t.pods {
		if err := t.plug(i); err != nil {
			return err
		}
	}
	return nil
}

func (t *trial) load() error {
	spec, err := bpf.LoadUnderlane()
	if err != nil {
		return err
	}
	for _, name := range []string{bpf.UnderlaneMapVeths, bpf.UnderlaneMapRedirects, bpf.UnderlaneMapAgent, bpf.UnderlaneMapPathCounters} {
		own := spec.Maps[name].Copy()
		own.Pinning = ebpf.PinNone
		if t.maps[name], err = ebpf.NewMap(own); err != nil {
			return err
		}
	}
	state := bpf.UnderlaneAgentState{HeartbeatNs: monotonicNow(), HeartbeatTimeoutNs: uint64(time.Hour)}
	if err := t.maps[bpf.UnderlaneMapAgent].Put(uint32(0), &state); err != nil {
		return err
	}
	t.prog, err = loadRedirect(t.maps)
	return err
}

// trialNets are the addresses of the two pods, in both families. The kernel may have no IPv6.
var trialNets = [][2]netip.Prefix{
	{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("192.0.2.2/24")},
	{netip.MustParsePrefix("2001:db8::1/64"), netip.MustParsePrefix("2001:db8::2/64")},
}

// elsewhere is the address that the pods send to, which no interface of the trial has: the
// host's ends are then not who the packets are for, as at the ports of a bridge.
var elsewhere = net.HardwareAddr{0x02, 0, 0, 0, 0, 0x01}

// plug connects a pod to the host and attaches the program there.
func (t *trial) plug(i int) error {
	outside, err := netlink.NewHandleAt(vns.NsHandle(t.host.FD()), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer outside.Close()
	inside, err := netlink.NewHandleAt(vns.NsHandle(t.pods[i].FD()), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer inside.Close()
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprint("pod", i)}, PeerName: "eth0", PeerNamespace: netlink.NsFd(t.pods[i].FD()),
	}
	if err := outside.LinkAdd(veth); err != nil {
		return fmt.Errorf("add a veth: %w", err)
	}
	end, err := up(outside, veth.Name)
	if err != nil {
		return err
	}
	eth, err := up(inside, "eth0")
	if err != nil {
		return err
	}
	for _, pods := range trialNets {
		if err := address(inside, eth, pods[i], pods[1-i].Addr()); err != nil && pods[i].Addr().Is4() {
			return err
		}
	}
	t.ends[i] = end
	if err := t.maps[bpf.UnderlaneMapVeths].Put(t.pods[i].Cookie(), &bpf.UnderlaneVeth{Ifindex: uint32(end)}); err != nil {
		return err
	}
	return t.host.Do(func() error {
		l, err := link.AttachTCX(link.TCXOptions{Interface: end, Program: t.prog, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return fmt.Errorf("attach to a veth: %w", err)
		}
		t.links = append(t.links, l)
		return nil
	})
}

// up sets an interface up and returns its index.
func up(h *netlink.Handle, name string) (int, error) {
	l, err := h.LinkByName(name)
	if err == nil {
		err = h.LinkSetUp(l)
	}
	if err != nil {
		return 0, fmt.Errorf("set %s up: %w", name, err)
	}
	return l.Attrs().Index, nil
}

// address gives an interface its address, and the other pod as a neighbour.
func address(h *netlink.Handle, index int, own netip.Prefix, other netip.Addr) error {
	l := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: own.Addr().AsSlice(), Mask: net.CIDRMask(own.Bits(), own.Addr().BitLen())}}
	family := netlink.FAMILY_V4
	if own.Addr().Is6() {
		family, addr.Flags = netlink.FAMILY_V6, unix.IFA_F_NODAD // usable at once
	}
	if err := h.AddrAdd(l, addr); err != nil {
		return fmt.Errorf("add %s: %w", own, err)
	}
	err := h.NeighAdd(&netlink.Neigh{
		LinkIndex: index, State: netlink.NUD_PERMANENT, Family: family, IP: other.AsSlice(), HardwareAddr: elsewhere,
	})
	if err != nil {
		return fmt.Errorf("add the neighbour %s: %w", other, err)
	}
	return nil
}

func (t *trial) close() {
	for _, l := range t.links {
		l.Close()
	}
	if t.prog != nil {
		t.prog.Close()
	}
	for _, m := range t.maps {
		m.Close()
	}
	for _, ns := range []*netns.NS{t.host, t.pods[0], t.pods[1]} {
		if ns != nil {
			ns.Close()
		}
	}
}

// connect sends bytes both ways over a connection, and compares them.
func (t *trial) connect(client, server netip.AddrPort) error {
	ends, value := redirectEntry(client, server, [2]uint64{t.pods[0].Cookie(), t.pods[1].Cookie()})
	if err := t.maps[bpf.UnderlaneMapRedirects].Put(&ends, &value); err != nil {
		return err
	}
	listener, err := t.pods[1].Listen(server.Addr(), server.Port(), Mark)
	if err != nil {
		if server.Addr().Is6() {
			return nil // no IPv6 in this kernel
		}
		return err
	}
	defer listener.Close()
	fd, err := t.pods[0].Socket(client.Addr(), Mark)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, rawio.Sockaddr(client)); err != nil {
		unix.Close(fd)
		return fmt.Errorf("bind: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), trialLimit)
	defer cancel()
	near, err := rawio.Connect(ctx, fd, server)
	if err != nil {
		return fmt.Errorf("no packet has arrived: %w", err)
	}
	defer near.Close()
	far, err := listener.Accept()
	if err != nil {
		return err
	}
	defer far.Close()
	for _, c := range []*rawio.Conn{near, far} {
		if err := c.SetDeadline(time.Now().Add(trialLimit)); err != nil {
			return err
		}
	}
	for _, way := range [][2]*rawio.Conn{{near, far}, {far, near}} {
		if err := pour(way[0], way[1]); err != nil {
			return err
		}
	}
	return nil
}

// pour writes trialVolume bytes to one end, and reads them at the other.
func pour(from io.Writer, to io.Reader) error {
	sent, got := make([]byte, trialVolume), make([]byte, trialVolume)
	for i := range sent {
		sent[i] = byte(i ^ i>>8)
	}
	written := make(chan error, 1)
	go func() {
		_, err := from.Write(sent)
		written <- err
	}()
	if _, err := io.ReadFull(to, got); err != nil {
		return fmt.Errorf("not all bytes arrive: %w", err)
	}
	if err := <-written; err != nil {
		return err
	}
	if string(sent) != string(got) {
		return fmt.Errorf("other bytes arrive than were sent")
	}
	return nil
}

// redirectEntry makes the entry of a connection of the map redirects, as bpf/path.c does.
// The cookies are those of the client's namespace and of the server's.
func redirectEntry(client, server netip.AddrPort, cookies [2]uint64) (bpf.UnderlaneEnds, bpf.UnderlaneRedirected) {
	if !isLow(client, server) {
		client, server = server, client
		cookies[0], cookies[1] = cookies[1], cookies[0]
	}
	return bpf.UnderlaneEnds{
		Low: mapAddress(client.Addr()), High: mapAddress(server.Addr()), LowPort: client.Port(), HighPort: server.Port(),
	}, bpf.UnderlaneRedirected{
		LowCookie: cookies[0], HighCookie: cookies[1], FiledNs: monotonicNow(),
	}
}
