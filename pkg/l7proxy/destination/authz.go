package destination

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/tap"
)

// Asker describes a request for the authorization policies. A driver implements it.
type Asker interface {
	// Asked returns the request. Its strings must stay valid until the decision.
	Asked() authz.Request
}

// facts are the arguments of one decision. They are used again, because policies may be
// given to code that keeps the compiler from leaving them on the stack.
type facts struct {
	connection authz.Connection
	request    authz.Request
}

var factsPool = sync.Pool{New: func() any { return new(facts) }}

// authorize decides whether a client may connect to port of w, a pod of this node, and
// make the request asked. asked is nil for a connection that is not read as requests.
// probe: the client is the node itself. The error is a *mesh.ReasonError.
func (d *Directory) authorize(w *mesh.Workload, port uint16, client *tap.Peer, probe bool, asked Asker) error {
	if !w.Authorized {
		return nil
	}
	decision := d.decide(d.State.View().Authz(w.UID), port, client.Identity, client.Addr.Addr(), probe, asked)
	if decision.Verdict == authz.Allow {
		if decision.Reported() != "" {
			d.audited.Add(1)
		}
		return nil
	}
	return mesh.Fail(reason(&decision), denial(&decision))
}

// reason is what a client is told of a refusal.
func reason(d *authz.Decision) mesh.Reason {
	if d.Why == authz.WhyUnrouted {
		return mesh.ReasonRouteNotFound
	}
	return mesh.ReasonPolicyDenied
}

// Audited counts requests and connections that policies ask to report: those that match
// one of the action AUDIT, and those that only the mode audit lets in.
func (d *Directory) Audited() uint64 { return d.audited.Load() }

func (d *Directory) decide(rules *authz.Workload, port uint16, id mesh.Identity, addr netip.Addr, probe bool, asked Asker) authz.Decision {
	f := factsPool.Get().(*facts)
	defer factsPool.Put(f)
	f.connection = authz.Connection{Peer: d.peers.of(id), Client: addr, Port: port, Probe: probe}
	if asked == nil {
		return rules.DecideRequest(&f.connection, nil)
	}
	f.request = asked.Asked()
	decision := rules.DecideRequest(&f.connection, &f.request)
	f.request = authz.Request{} // its strings belong to the driver
	return decision
}

var (
	errNoRules  = errors.New("this node does not have the pod's policies, or cannot read them")
	errUnrouted = errors.New("the request belongs to no route of the Server")
	errOpaque   = errors.New("the policies look at requests, and the connection is not read as requests")
)

// denial says what led to a refusal, for the log.
func denial(d *authz.Decision) error {
	switch {
	case d.Why == authz.WhyNothing:
		return errNoRules
	case d.Why == authz.WhyOpaque:
		return errOpaque
	case d.Why == authz.WhyUnrouted:
		return errUnrouted
	case d.Verdict == authz.Ask:
		return fmt.Errorf("policy %s asks an external authorizer, which this version does not do", d.Place.Policy)
	case d.Why == authz.WhyRule:
		return fmt.Errorf("policy %s, rule %d", d.Place.Policy, d.Place.Number)
	}
	return errNotAllowed
}

var errNotAllowed = errors.New("no policy allows it")

// peers has the authz.Peer of identities: to make one takes memory.
type peers struct {
	mu sync.RWMutex
	by map[mesh.Identity]authz.Peer
}

// peersMost bounds the identities that are kept.
const peersMost = 4096

func (p *peers) of(id mesh.Identity) authz.Peer {
	if id.IsZero() {
		return authz.Peer{}
	}
	p.mu.RLock()
	peer, ok := p.by[id]
	p.mu.RUnlock()
	if ok {
		return peer
	}
	peer = authz.PeerOf(id)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.by == nil || len(p.by) >= peersMost {
		p.by = make(map[mesh.Identity]authz.Peer)
	}
	p.by[id] = peer
	return peer
}
