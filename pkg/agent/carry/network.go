package carry

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/redirect"
)

// Network makes connections inside the namespaces of the pods of a Carrier. It
// implements l7proxy.Network.
type Network struct {
	carrier *Carrier
	shared  atomic.Bool
}

// NewNetwork makes the network of c's pods.
func NewNetwork(c *Carrier) *Network { return &Network{carrier: c} }

// Dial implements l7proxy.Network.
func (n *Network) Dial(ctx context.Context, from string, dst netip.AddrPort) (*rawio.Conn, error) {
	e, err := n.pod(from)
	if err != nil {
		return nil, err
	}
	return e.Dial(ctx, dst)
}

// DialApp implements l7proxy.Network.
func (n *Network) DialApp(ctx context.Context, into string, dst, client netip.AddrPort) (*rawio.Conn, error) {
	e, err := n.pod(into)
	if err != nil {
		return nil, err
	}
	return e.DialApp(ctx, dst, client)
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

// pod returns the pod to dial in: the enrolled one, else one that was taken out and
// is still carried.
func (n *Network) pod(uid string) (*redirect.Pod, error) {
	n.carrier.mu.RLock()
	defer n.carrier.mu.RUnlock()
	if p := n.carrier.byUID[uid]; p != nil {
		return p.Pod, nil
	}
	for e := range n.carrier.pods {
		if e.UID == uid {
			return e, nil
		}
	}
	return nil, fmt.Errorf("pod %s is not enrolled any more", uid)
}
