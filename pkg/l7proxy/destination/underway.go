package destination

import (
	"errors"
	"iter"
	"maps"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/tap"
)

// Underway is a request under way to a pod of this node, as far as policies look at it, or from
// one.
type Underway struct {
	Rules   *authz.Workload // by which it was let in; nil: they looked at no request
	Asked   Asker           // nil: its head is not kept
	Leaving Leaving         // of a request from a pod
}

// Rejudged is what the policies of now say of a request under way.
type Rejudged struct {
	// Err is why the request is not allowed any more, a *mesh.ReasonError; nil: it is
	// allowed, or it is judged the next time.
	Err   error
	Entry *calls.Entry    // what has decided, for the events of a request that is refused; nil: it is not said
	Rules *authz.Workload // the new Underway.Rules
	By    *Egress         // the new Leaving.By
}

var errNoHead = errors.New("the policies look at requests now, and the head of this one is not kept")

// All yields the UIDs of the pods.
func (c *Changed) All() iter.Seq[string] { return maps.Keys(c.pods) }

// Request judges a request under way on an inbound session of client. What is decided
// without the request is left to Inbound. Limits, and the age of a token, end no request.
//
// A request whose head is not kept is refused if the decision depends on it. That is not
// done in the first second, in which most requests end by themselves.
func (c *Changed) Request(target Target, client *tap.Peer, u Underway) Rejudged {
	t, ok := target.(*Inbound)
	if !ok || t.fromNode {
		return Rejudged{Rules: u.Rules}
	}
	d, w, port := c.admission, c.pods[t.Local().UID], t.addr.Port()
	if w == nil {
		return Rejudged{Rules: u.Rules}
	}
	if now, known := d.State.View().WorkloadByUID(w.UID); known {
		w = now
	}
	rules := d.State.View().Authz(w.UID)
	if !w.Authorized || rules == u.Rules || !rules.NeedsRequests(port) {
		return Rejudged{Rules: rules}
	}
	f := factsPool.Get().(*facts)
	defer factsPool.Put(f)
	f.connection = authz.Connection{Peer: d.peers.of(client.Identity), Client: client.Addr.Addr(), Port: port}
	if u.Asked == nil {
		decision := rules.DecideConnection(&f.connection)
		switch {
		case decision.Verdict != authz.NeedsRequest || u.Rules.DecidesAs(rules):
			return Rejudged{Rules: rules}
		case c.fresh[w.UID]:
			return Rejudged{Rules: u.Rules}
		}
		return Rejudged{Err: mesh.Fail(mesh.ReasonPolicyDenied, errNoHead), Rules: rules}
	}
	f.request = u.Asked.Asked()
	defer func() { f.request = authz.Request{} }()
	if claims := f.request.Claims; claims != nil {
		if issuer, _ := claims.Value([]string{"iss"}, 0); !rules.Issues(issuer) {
			f.request.Principal, f.request.Claims = "", nil
		}
	}
	decision := rules.DecideRequest(&f.connection, &f.request)
	if decision.Verdict == authz.Allow {
		return Rejudged{Rules: rules}
	}
	out := Rejudged{Err: mesh.Fail(reason(&decision), denial(&decision)), Rules: rules}
	if d.Calls != nil {
		out.Entry = d.Calls.Judged(w, &f.connection, client.Identity, &f.request, &decision)
	}
	return out
}
