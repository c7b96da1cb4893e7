package carry

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/rawio"
)

// Network makes connections inside the namespaces of the pods of a Carrier. It
// implements l7proxy.Network. If a pod has ended, the error is a *mesh.ReasonError: with
// mesh.ReasonPodGone if that is the pod that was dialled, and with mesh.ReasonClientReset if
// it is the pod that dials.
type Network struct {
	carrier *Carrier
	shared  atomic.Bool
}

// NewNetwork makes the network of c's pods.
func NewNetwork(c *Carrier) *Network { return &Network{carrier: c} }

// Dial implements l7proxy.Network.
func (n *Network) Dial(ctx context.Context, from string, dst netip.AddrPort) (*rawio.Conn, error) {
	p, err := n.pod(from, errClientEnded)
	if err != nil {
		return nil, err
	}
	ep, err := n.carrier.endpoint(dst.Addr())
	if err != nil {
		return nil, fmt.Errorf("dial %s from %s: %w", dst, p.Name, err)
	}
	source := n.carrier.source(p, dst.Addr())
	conn, err := ep.dial(ctx, func(ctx context.Context) (*rawio.Conn, error) { return p.Dial(ctx, source, dst) })
	if err != nil {
		return nil, err
	}
	return n.carrier.track(conn, p, ep, errClientEnded)
}

// source returns the address from which p connects to dst; the zero Addr stands for the
// kernel's choice. The node of a pod of the mesh accepts the client's identity only from an
// address that the cluster knows (AdmitPeer in pkg/l7proxy/destination). A pod may have
// others that the kernel prefers, such as an IPv6 address that it got later.
func (c *registry) source(p *pod, dst netip.Addr) netip.Addr {
	if w, ok := c.State.View().Workload(dst); !ok || !w.Meshed {
		return netip.Addr{}
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, addr := range p.workload.Addrs {
		if addr.Unmap().Is4() == dst.Unmap().Is4() {
			return addr.Unmap()
		}
	}
	return netip.Addr{}
}

// DialApp implements l7proxy.Network.
func (n *Network) DialApp(ctx context.Context, into string, dst, client netip.AddrPort) (*rawio.Conn, error) {
	p, err := n.pod(into, errEnded)
	if err != nil {
		return nil, err
	}
	conn, err := p.DialApp(ctx, dst, client)
	if n.carrier.refused(p, err) {
		return nil, fmt.Errorf("dial application %s of %s: %w", dst, p.Name, errEnded)
	}
	if err != nil {
		return nil, err
	}
	return n.carrier.track(conn, p, nil, errEnded)
}

// DialAs makes a connection from a pod as one of its programs would make it (pkg/agent/try).
func (n *Network) DialAs(ctx context.Context, from string, dst netip.AddrPort) (net.Conn, error) {
	p, err := n.pod(from, errClientEnded)
	if err != nil {
		return nil, err
	}
	c, err := p.DialAs(ctx, dst)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Enrolled implements l7proxy.Network.
func (n *Network) Enrolled(uid string) bool {
	n.carrier.mu.RLock()
	defer n.carrier.mu.RUnlock()
	return n.carrier.byUID[uid] != nil
}

// Shared implements l7proxy.Network.
func (n *Network) Shared() bool { return n.shared.Load() }

// SetShared says whether the node is being handed over, to this agent or from it.
func (n *Network) SetShared(on bool) { n.shared.Store(on) }

// Gone implements l7proxy.Network.
func (n *Network) Gone(addr netip.Addr) bool {
	c := n.carrier
	addr = addr.Unmap()
	w, known := c.State.View().Workload(addr)
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.gone(addr, w, known)
}

// pod returns the pod to dial in: the enrolled one, else one that was taken out and
// is still carried. The error wraps ended if the pod has ended.
func (n *Network) pod(uid string, ended error) (*pod, error) {
	n.carrier.mu.RLock()
	defer n.carrier.mu.RUnlock()
	p := n.carrier.byUID[uid]
	if p == nil {
		for _, other := range n.carrier.pods {
			if other.UID == uid {
				p = other
			}
		}
	}
	switch {
	case p != nil && p.ended:
		return nil, fmt.Errorf("pod %s: %w", p.Name, ended)
	case p != nil:
		return p, nil
	}
	return nil, fmt.Errorf("pod %s is not enrolled any more", uid)
}
