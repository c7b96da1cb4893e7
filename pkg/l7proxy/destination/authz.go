package destination

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/limit/lease"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/calls"
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
	value      lease.Value
	taken      []*lease.Bucket
}

var factsPool = sync.Pool{New: func() any { return new(facts) }}

// authorize decides whether a client may connect to port of w, a pod of this node, and
// make the request asked. asked is nil for a connection that is not read as requests.
// q.Asked is the request to remember. probe: the client is the node itself. It sets a.Judged
// if w has policies, and a.Rules if these look at requests. The error is a *mesh.ReasonError.
func (d *admission) authorize(a *endpoints.Attempt, w *mesh.Workload, port uint16, client *tap.Peer, probe bool, asked Asker, q *Query) error {
	if !w.Authorized && !w.Limited {
		return nil
	}
	rules := d.State.View().Authz(w.UID)
	decision, entry := d.decide(rules, w, port, client.Identity, client.Addr.Addr(), probe, asked, q)
	a.Judged, a.Rules = entry, nil
	if asked != nil && !probe && rules.NeedsRequests(port) {
		a.Rules = rules
	}
	if decision.Failed.Text != "" {
		d.failed.Add(1)
	}
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
	switch d.Why {
	case authz.WhyUnrouted:
		return mesh.ReasonRouteNotFound
	case authz.WhyLimit:
		return mesh.ReasonRateLimited
	case authz.WhyExternal:
		return mesh.ReasonExternalDenied
	}
	return mesh.ReasonPolicyDenied
}

// ExpressionsFailed counts requests of which an expression of a policy could not be evaluated.
func (d *admission) ExpressionsFailed() uint64 { return d.failed.Load() }

// Audited counts requests and connections that policies ask to report: those that match
// one of the action AUDIT, and those that only the mode audit lets in.
func (d *admission) Audited() uint64 { return d.audited.Load() }

func (d *admission) decide(rules *authz.Workload, w *mesh.Workload, port uint16, id mesh.Identity, addr netip.Addr, probe bool, asked Asker, q *Query) (authz.Decision, *calls.Entry) {
	f := factsPool.Get().(*facts)
	defer factsPool.Put(f)
	f.connection = authz.Connection{Peer: d.peers.of(id), Client: addr, Port: port, Probe: probe}
	var judged, known *authz.Request
	if asked != nil {
		f.request = asked.Asked()
		judged, known = &f.request, &f.request
	} else if d.Calls != nil && q.Asked != nil {
		f.request = q.Asked.Asked()
		known = &f.request
	}
	decision := rules.DecideRequest(&f.connection, judged)
	if limits := rules.Limits(); len(limits) > 0 && judged != nil && !probe && decision.Verdict == authz.Allow {
		d.limits.apply(limits, f, id, &decision)
	}
	var entry *calls.Entry
	if d.Calls != nil && !probe && (w.Authorized || decision.Why == authz.WhyLimit) && (known != nil || q.Opaque) {
		entry = d.Calls.Judged(w, &f.connection, id, known, &decision)
	}
	f.request = authz.Request{} // its strings belong to the driver
	return decision, entry
}

// remember counts a request that was refused before it was judged as one.
func (d *admission) remember(w *mesh.Workload, port uint16, client *tap.Peer, asked Asker, decision *authz.Decision) *calls.Entry {
	if d.Calls == nil {
		return nil
	}
	f := factsPool.Get().(*facts)
	defer factsPool.Put(f)
	f.connection = authz.Connection{Peer: d.peers.of(client.Identity), Client: client.Addr.Addr(), Port: port}
	f.request = asked.Asked()
	entry := d.Calls.Judged(w, &f.connection, client.Identity, &f.request, decision)
	f.request = authz.Request{}
	return entry
}

var (
	errNoRules  = errors.New("this node does not have the pod's policies, or cannot read them")
	errUnrouted = errors.New("the request belongs to no route of the Server")
	errLimited  = errors.New("the request is over a limit of a RateLimitPolicy, or a limit in an annotation is not understood")
	errOpaque   = errors.New("the policies look at requests, and the connection is not read as requests")
)

// denial says what led to a refusal, for the log.
func denial(d *authz.Decision) error {
	switch {
	case d.Why == authz.WhyNothing:
		return errNoRules
	case d.Why == authz.WhyLimit:
		return errLimited
	case d.Why == authz.WhyOpaque:
		return errOpaque
	case d.Why == authz.WhyUnrouted:
		return errUnrouted
	case d.Verdict == authz.Ask:
		return fmt.Errorf("policy %s asks an authorizer %q that is not known, or began to ask it while the request was judged", d.Place.Policy, d.Provider)
	case d.Failed.Text != "":
		return fmt.Errorf("policy %s", d.Failed.String())
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
