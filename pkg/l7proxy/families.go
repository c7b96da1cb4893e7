package l7proxy

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
	"golang.org/x/sys/unix"
)

// A captured connection is accepted before anybody knows whether the application
// listens at that address. Without the mesh a client whose connection is refused
// tries the next address of a dual-stack name; here it would get an error instead.
// So where an application refuses a connection at one address of its pod, the
// address of the other family is tried.

// otherFamily is w's address of the other family than addr, which is its own too.
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

// dialApp connects to the application behind c, in a pod of this node, for client,
// whose address it sees. A client that has no address of the other family, as far as
// is known, could not have gone there.
func (p *Proxy) dialApp(ctx context.Context, c *Choice, client netip.AddrPort) (Conn, error) {
	dial := func(dst, client netip.AddrPort) (Conn, error) {
		return p.connect(ctx, c, func(ctx context.Context) (*rawio.Conn, error) {
			return p.Network.DialApp(ctx, c.Peer.Workload.UID, dst, client)
		})
	}
	conn, err := dial(c.Peer.Addr, client)
	if !errors.Is(err, unix.ECONNREFUSED) {
		return conn, err
	}
	other, ok := otherFamily(c.Peer.Workload, c.Peer.Addr.Addr())
	if !ok {
		return nil, err
	}
	from := c.from
	if from == nil { // inbound
		p.resolve(ctx, client.Addr())
		from, _ = p.State.View().Workload(client.Addr())
	}
	as, ok := otherFamily(from, client.Addr())
	if !ok {
		return nil, err
	}
	return c.instead(dial, other, netip.AddrPortFrom(as, client.Port()), err)
}

// dialOutside connects to an endpoint outside the mesh.
func (p *Proxy) dialOutside(ctx context.Context, local *mesh.Workload, c *Choice) (Conn, error) {
	conn, err := p.dialPlain(ctx, local, c)
	if !errors.Is(err, unix.ECONNREFUSED) {
		return conn, err
	}
	other, ok := otherFamily(c.Peer.Workload, c.Peer.Addr.Addr())
	if !ok {
		return nil, err
	}
	return c.instead(func(dst, _ netip.AddrPort) (Conn, error) {
		to := Choice{Peer: tap.Peer{Addr: dst}, failover: c.failover}
		return p.dialPlain(ctx, local, &to)
	}, other, netip.AddrPort{}, err)
}

// instead connects to the other address of an endpoint that refused with err.
func (c *Choice) instead(dial func(dst, client netip.AddrPort) (Conn, error), other netip.Addr, client netip.AddrPort, err error) (Conn, error) {
	dst := netip.AddrPortFrom(other, c.Peer.Addr.Port())
	conn, otherErr := dial(dst, client)
	if otherErr != nil {
		return nil, err // as it was before there was another
	}
	c.reached = dst
	return conn, nil
}

// peer is the endpoint, at the address where it was reached.
func (c *Choice) peer() tap.Peer {
	p := c.Peer
	if c.reached.IsValid() {
		p.Addr = c.reached
	}
	return p
}
