package redirect

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/rawio"
	"golang.org/x/sys/unix"
)

// Dial connects to dst from the pod's namespace. The hooks do not capture the connection.
// The source address is from, if from is valid and the pod has it. Otherwise the kernel
// chooses one of the pod's addresses.
func (p *sockets) Dial(ctx context.Context, from netip.Addr, dst netip.AddrPort) (*rawio.Conn, error) {
	fd, err := p.ns.Socket(dst.Addr(), Mark)
	if err != nil {
		return nil, fmt.Errorf("dial %s from %s: %w", dst, p.Name, err)
	}
	// With this option bind chooses no port: connect does, so that connections to
	// different destinations can share one.
	if from.IsValid() && unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1) == nil {
		_ = unix.Bind(fd, rawio.Sockaddr(netip.AddrPortFrom(from, 0)))
	}
	return rawio.Connect(ctx, fd, dst)
}

// DialAs connects to dst from the pod's namespace as a program of the pod does: the hooks
// capture the connection.
func (p *sockets) DialAs(ctx context.Context, dst netip.AddrPort) (*rawio.Conn, error) {
	fd, err := p.ns.Socket(dst.Addr(), 0)
	if err != nil {
		return nil, fmt.Errorf("dial %s as %s: %w", dst, p.Name, err)
	}
	return rawio.Connect(ctx, fd, dst)
}

// DialApp connects to the pod's own application at dst, an address of the pod, from
// the pod's namespace. getpeername() and accept() give the application client as the
// address of its peer.
func (p *entries) DialApp(ctx context.Context, dst, client netip.AddrPort) (*rawio.Conn, error) {
	others := p.apps.Add(1) - 1
	c, err := p.dialApp(ctx, dst, client, others >= largeSegments)
	if err != nil {
		p.apps.Add(-1)
		return nil, err
	}
	c.OnClose(func() { p.apps.Add(-1) })
	return c, nil
}

func (p *entries) dialApp(ctx context.Context, dst, client netip.AddrPort, small bool) (*rawio.Conn, error) {
	fd, err := p.ns.Socket(dst.Addr(), Mark)
	if err != nil {
		return nil, fmt.Errorf("dial application %s of %s: %w", dst, p.Name, err)
	}
	if small {
		setSmallSegments(fd)
	}
	local, key, err := p.introduce(fd, dst, client)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("dial application %s of %s: %w", dst, p.Name, err)
	}
	c, err := rawio.ConnectWithin(ctx, fd, local, dst)
	if err != nil {
		// No application has accepted: without the deletion the entry would name this
		// client for the next connection from the port.
		_ = p.d.objs.PeerNames.Delete(&key)
	}
	return c, err
}

// introduce binds the socket, so that its port is known before it connects, and writes
// the client that the connection stands for into the map peer_names. It returns the
// socket's address, and the key of the entry.
func (p *entries) introduce(fd int, dst, client netip.AddrPort) (local netip.AddrPort, key bpf.UnderlanePeerKey, err error) {
	if err := unix.Bind(fd, rawio.Sockaddr(netip.AddrPortFrom(dst.Addr(), 0))); err != nil {
		return local, key, os.NewSyscallError("bind to the pod's address", err)
	}
	if local, err = rawio.LocalAddr(fd); err != nil {
		return local, key, err
	}
	family := uint32(unix.AF_INET6)
	if dst.Addr().Unmap().Is4() {
		family = unix.AF_INET
	}
	key = bpf.UnderlanePeerKey{
		NetnsCookie: p.Cookie(),
		AgentPort:   local.Port(),
		AppPort:     dst.Port(),
		Family:      family,
	}
	name := bpf.UnderlanePeerName{Addr: mapAddress(client.Addr()), Port: client.Port()}
	if err := putElement(p.d.objs.PeerNames, &key, &name); err != nil {
		return local, key, fmt.Errorf("peer_names map: %w", err)
	}
	return local, key, nil
}

// Original is the original destination of a captured connection, and the process that
// made the connection.
type Original struct {
	Addr    netip.AddrPort
	Process string
	PID     uint32
}

// Original takes from the map the original destination of a connection that one of the
// pod's outbound listeners has accepted; client and local are the addresses of its two
// ends. It returns false if the client connected to the listener itself.
func (p *Pod) Original(local, client netip.AddrPort) (Original, bool) {
	key := bpf.UnderlaneClientKey{NetnsCookie: p.Cookie(), Addr: mapAddress(client.Addr()), Port: client.Port()}
	if !p.listensAt(local) { // bpf/via.c
		key.ViaPort = local.Port()
		if addr := local.Addr().Unmap(); addr.Is4() {
			key.Via = addr.As4()
		}
	}
	var dst bpf.UnderlaneOriginalDst
	if err := takeElement(p.d.objs.OriginalDsts, &key, &dst); err != nil {
		return Original{}, false
	}
	return Original{Addr: fromMap(dst.Addr, dst.Port), Process: cString(dst.Process[:]), PID: dst.Pid}, true
}

func (p *Pod) listensAt(addr netip.AddrPort) bool {
	return slices.ContainsFunc(p.Outbound, func(l *rawio.Listener) bool { return l.Addr() == addr })
}
