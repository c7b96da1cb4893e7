package endpoints

import (
	"net/http"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Attempt is one try at one endpoint, and what its balancer is to hear of it. It is
// to be Done with exactly once.
type Attempt struct {
	upstream.Endpoint
	// Found is what the dial has found, and before it what it is likely to find.
	Found upstream.Result

	set      *Set
	balancer *balance.Balancer // nil: no balancer wants to hear
	ticket   balance.Ticket
	outcome  balance.Outcome
	sent     time.Duration // from when the endpoint has had the request, at most
	why      mesh.Reason   // of a failure
	heard    time.Duration // when outcome was set
}

// SetEndpoint sets the attempt to an endpoint that no balancer chose.
func (a *Attempt) SetEndpoint(ep upstream.Endpoint) {
	*a = Attempt{Endpoint: ep, Found: ep.Expected()}
}

// Balanced has the balancer that chose the endpoint, by that ticket, hear of the
// attempt. others: it has others to try.
func (s *Set) Balanced(a *Attempt, b *balance.Balancer, t balance.Ticket, others bool) {
	a.set, a.balancer, a.ticket, a.sent = s, b, t, t.Began
	a.outcome = balance.Outcome{Latency: -1}
	a.Endpoint.Balanced, a.HasOthers = true, others
}

// Reached notes what the connection has found that carries the request.
func (a *Attempt) Reached(r *upstream.Result) {
	a.Found.TLS, a.Found.Peer.Addr, a.Found.Peer.Identity = r.TLS, r.Peer.Addr, r.Peer.Identity
}

// Dialled notes that a connection had to be made first: that takes long once,
// and tells nothing of the requests to come.
func (a *Attempt) Dialled() {
	if a.balancer != nil {
		a.sent = balance.Now()
	}
}

// Answered notes the head of the final response: its status, and that it came
// now.
func (a *Attempt) Answered(status int) {
	if a.balancer == nil {
		return
	}
	a.heard = balance.Now()
	a.outcome = balance.Outcome{Latency: a.heard - a.sent, Result: balance.Success}
	if status >= http.StatusInternalServerError {
		a.outcome.Result = balance.Failure
	}
}

// AnsweredCall is Answered for the status of a gRPC call, which comes at its
// end.
func (a *Attempt) AnsweredCall(status int) {
	if a.balancer != nil && a.outcome.Result == balance.Success && tap.GRPCFailure(status) {
		a.heard, a.outcome.Result = balance.Now(), balance.Failure
	}
}

// Failed notes why the endpoint gave no answer, or no complete one. What tells
// nothing of the endpoint changes nothing.
func (a *Attempt) Failed(why mesh.Reason) {
	if a.balancer == nil {
		return
	}
	if result := resultOf(why); result != balance.Unknown {
		a.heard, a.outcome.Result, a.why = balance.Now(), result, why
	}
}

// Connected notes that the endpoint was reached, where nothing else tells how
// it is: the connection is opaque.
func (a *Attempt) Connected() {
	if a.balancer != nil {
		a.heard, a.outcome.Result = balance.Now(), balance.Success
	}
}

// resultOf is what a failure tells about the endpoint.
func resultOf(why mesh.Reason) balance.Result {
	switch {
	case upstream.TriesNextEndpoint(why):
		return balance.Unreachable
	case why == mesh.ReasonUpstreamReset, why == mesh.ReasonBadResponse, why == mesh.ReasonResponseHeader, why == mesh.ReasonTimeout:
		return balance.Failure
	}
	return balance.Unknown // the client's doing, or our own
}

// Done tells the balancer that the attempt is over, and how it ended.
func (a *Attempt) Done() {
	b := a.balancer
	if b == nil {
		return
	}
	a.balancer = nil
	switch b.Done(a.ticket, a.heard, a.outcome) {
	case balance.EjectedUnreachable:
		a.set.unreachable(&a.Endpoint, a.why, b)
	case balance.Ejected:
		a.set.ejections.failures.Add(1)
	}
}
