package destination

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// A certificate is good only at home: at an address of a pod that has its identity, and is
// in the mesh or leaving it. Agents connect from the namespace and the address of the client's pod, so
// the address of an inbound mTLS connection is the pod's. A key that was stolen from a
// node is then of no use at any other address.

// AdmitPeer decides whether a client that connects from addr to local, a pod of this node,
// may use the identity id of its certificate. It returns the identity that the client has:
// id, or none. The error is a *mesh.ReasonError with ReasonElsewhere.
//
// If the view does not have a pod with that address and identity, AdmitPeer waits for it,
// at most for ResolveTimeout, because the pod may have started a moment ago. It calls
// aside with the function that waits.
//
// While the controller is away, or if it does not answer, the client may be a pod that this
// node has not heard of. A strict pod refuses it. Other pods take clients without an
// identity, so the client is admitted as one of these.
func (d *waiter) AdmitPeer(ctx context.Context, addr netip.Addr, id mesh.Identity, local *mesh.Workload, aside func(wait func())) (mesh.Identity, error) {
	if atHome(d.State.View(), addr, id) {
		return id, nil
	}
	peer := peerClaim{addr.Unmap(), id}
	if !d.elsewhere.has(peer) && !d.unsaid.has(peer) {
		aside(func() {
			ctx, cancel := context.WithTimeout(ctx, d.ResolveTimeout)
			defer cancel()
			_ = d.State.Await(ctx, addr, func(v *state.View) bool { return atHome(v, addr, id) })
		})
	}
	v := d.State.View()
	if atHome(v, addr, id) {
		return id, nil
	}
	err := errElsewhere
	if !d.State.Connected() || !v.Answered(addr) {
		d.unsaid.add(peer, d.ResolveTimeout)
		if allowsAll(v, local) {
			d.Log.Debug("peer without an identity: the controller does not say whose its address is", "addr", addr, "identity", id)
			return mesh.Identity{}, nil
		}
		err = errUnsaid
	} else if d.elsewhere.add(peer, d.ResolveTimeout) {
		d.Log.Warn("a peer's certificate is of an identity that no pod has at the peer's address: was a key stolen?",
			"addr", addr, "identity", id, "pod", local.Namespace+"/"+local.Name)
	}
	return mesh.Identity{}, mesh.Fail(mesh.ReasonElsewhere, fmt.Errorf("%s at %s: %w", id, addr, err))
}

// meetTimeout bounds how long a client waits because the controller is slow to say which pod
// it is: only what is reported of it depends on that.
const meetTimeout = 100 * time.Millisecond

// Meet waits until the controller has said whose addr is, the address of a client without an
// identity, so that everything that is reported of the client is reported of the same one. It
// calls aside with the function that waits.
func (d *waiter) Meet(ctx context.Context, addr netip.Addr, aside func(wait func())) {
	d.meet(ctx, addr, min(meetTimeout, d.ResolveTimeout), aside)
}

// Expect is Meet for a client that says nothing yet. What the client is sent depends on who it
// is, so Expect waits for ResolveTimeout.
func (d *waiter) Expect(ctx context.Context, addr netip.Addr, aside func(wait func())) {
	d.meet(ctx, addr, d.ResolveTimeout, aside)
}

// meet waits once for an address: a controller that did not answer in time is not waited for
// again until ResolveTimeout has passed.
func (d *waiter) meet(ctx context.Context, addr netip.Addr, timeout time.Duration, aside func(wait func())) {
	client := peerClaim{addr: addr.Unmap()}
	if d.State.View().Answered(addr) || d.unsaid.has(client) {
		return
	}
	aside(func() {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		if d.State.Resolve(ctx, addr) != nil {
			d.unsaid.add(client, d.ResolveTimeout)
		}
	})
}

var (
	errElsewhere = errors.New("no pod in the mesh has this identity and this address")
	errUnsaid    = errors.New("the controller does not say whose address it is, and the server's policy is strict")
)

// atHome reports whether addr is an address of a pod with the identity id, whose
// connections an agent carries.
func atHome(v *state.View, addr netip.Addr, id mesh.Identity) bool {
	w, ok := v.Workload(addr)
	return ok && (w.Meshed || w.Leaving) && w.Identity == id
}

// AtHome reports whether a client that is connected from addr may still use the identity id:
// what AdmitPeer has decided of its handshake, without waiting. It is true for a client that
// was admitted without an identity.
func (d *waiter) AtHome(addr netip.Addr, id mesh.Identity) bool {
	return id.IsZero() || atHome(d.State.View(), addr, id)
}

// allowsAll reports whether local, with its newest settings, takes clients without an
// identity.
func allowsAll(v *state.View, local *mesh.Workload) bool {
	if w, ok := v.WorkloadByUID(local.UID); ok {
		local = w
	}
	return local.Settings.Policy == mesh.PolicyAllow
}

// peerClaim is a peer's address with the identity of its certificate.
type peerClaim struct {
	addr netip.Addr
	id   mesh.Identity
}

// peerClaims remembers for a limited time claims that were decided after a wait. Another
// connection with the same claim does not wait again: it is decided at once. That is also
// the second attempt of a client's agent, which comes right after a refusal.
type peerClaims struct {
	mu    sync.Mutex
	until map[peerClaim]time.Time
}

// claimsMost bounds the claims that are remembered. One above it only waits each time.
const claimsMost = 1024

func (c *peerClaims) has(claim peerClaim) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.until[claim]
	return ok && time.Now().Before(until)
}

// add remembers a claim. It reports whether the claim is a new one.
func (c *peerClaims) add(claim peerClaim, how time.Duration) bool {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if until, ok := c.until[claim]; ok && now.Before(until) {
		return false
	}
	if len(c.until) >= claimsMost {
		for claim, until := range c.until {
			if !now.Before(until) {
				delete(c.until, claim)
			}
		}
		if len(c.until) >= claimsMost {
			return false
		}
	}
	if c.until == nil {
		c.until = make(map[peerClaim]time.Time)
	}
	c.until[claim] = now.Add(how)
	return true
}
