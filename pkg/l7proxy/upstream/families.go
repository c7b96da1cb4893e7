package upstream

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"golang.org/x/sys/unix"
)

// The agent accepts a captured connection before it knows whether the application listens
// at the destination address. Without the mesh, a client whose connection is refused
// tries the next address of a dual-stack name; with it, the client would get an error. So
// where an application refuses a connection at one address of its pod, the pool tries the
// pod's address of the other family.

// otherFamily returns w's address of the family that addr is not of. addr must be an
// address of w.
func otherFamily(w *mesh.Workload, addr netip.Addr) (netip.Addr, bool) {
	if w == nil || !slices.Contains(w.Addrs, addr.Unmap()) {
		return netip.Addr{}, false
	}
	i := slices.IndexFunc(w.Addrs, func(a netip.Addr) bool { return a.Is4() != addr.Unmap().Is4() })
	if i < 0 {
		return netip.Addr{}, false
	}
	return w.Addrs[i], true
}

// dialApp connects to the application of an endpoint on this node. The application sees
// the address client. The other family is tried only if the client is known to have an
// address of it: without the mesh it could not connect there otherwise.
func (p *dialer) dialApp(ctx context.Context, ep *Endpoint, client netip.AddrPort) (conn.Conn, Result, error) {
	dial := func(dst, client netip.AddrPort) (*rawio.Conn, error) {
		return p.connect(ctx, ep, func(ctx context.Context) (*rawio.Conn, error) {
			return p.Network.DialApp(ctx, ep.Peer.Workload.UID, dst, client)
		})
	}
	raw, err := dial(ep.Peer.Addr, client)
	if !errors.Is(err, unix.ECONNREFUSED) {
		return p.dialled(ep, raw, err)
	}
	other, ok := otherFamily(ep.Peer.Workload, ep.Peer.Addr.Addr())
	if !ok {
		return p.dialled(ep, nil, err)
	}
	from := ep.Client
	if from == nil { // inbound
		p.resolve(ctx, client.Addr())
		from, _ = p.State.View().Workload(client.Addr())
	}
	as, ok := otherFamily(from, client.Addr())
	if !ok {
		return p.dialled(ep, nil, err)
	}
	return p.instead(ep, dial, other, netip.AddrPortFrom(as, client.Port()), err)
}

// dialOutside connects to an endpoint outside the mesh.
func (p *dialer) dialOutside(ctx context.Context, ep *Endpoint) (conn.Conn, Result, error) {
	raw, err := p.dialPlain(ctx, ep, ep.Peer.Addr)
	if !errors.Is(err, unix.ECONNREFUSED) {
		return p.dialled(ep, raw, err)
	}
	other, ok := otherFamily(ep.Peer.Workload, ep.Peer.Addr.Addr())
	if !ok {
		return p.dialled(ep, nil, err)
	}
	return p.instead(ep, func(dst, _ netip.AddrPort) (*rawio.Conn, error) {
		return p.dialPlain(ctx, ep, dst)
	}, other, netip.AddrPort{}, err)
}

// dialled returns the outcome of a dial to the endpoint's own address.
func (p *dialer) dialled(ep *Endpoint, raw *rawio.Conn, err error) (conn.Conn, Result, error) {
	if err != nil {
		return nil, ep.Expected(), err
	}
	return p.plain(ep, raw), ep.Expected(), nil
}

// instead connects to another address of an endpoint that refused with err at its own.
func (p *dialer) instead(ep *Endpoint, dial func(dst, client netip.AddrPort) (*rawio.Conn, error), other netip.Addr, client netip.AddrPort, err error) (conn.Conn, Result, error) {
	dst := netip.AddrPortFrom(other, ep.Peer.Addr.Port())
	raw, otherErr := dial(dst, client)
	if otherErr != nil {
		return p.dialled(ep, nil, err) // of the address that the client asked for
	}
	result := ep.Expected()
	result.Peer.Addr = dst
	return p.plain(ep, raw), result, nil
}
