package endpoints

import (
	"net/http"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/tap"
)

// Attempt is one try at one endpoint, with the outcome that its balancer is told. Done
// must be called exactly once.
type Attempt struct {
	upstream.Endpoint
	// Found is the result of the dial; before the dial, the expected one.
	Found upstream.Result

	// Judged is how the policies of a server of this node have decided; nil: it has none.
	Judged *calls.Entry
	// Rules are the policies by which a request was let in, if the decision about another
	// request may be another one; nil: it is not, or the server is no pod of this node.
	Rules *authz.Workload

	set      *Set
	balancer *balance.Balancer // nil: no balancer has chosen the endpoint
	ticket   balance.Ticket
	outcome  balance.Outcome
	sent     time.Duration // when the endpoint got the request, at the earliest; by monotime.Now
	why      mesh.Reason   // of a failure
	heard    time.Duration // when outcome was set; by monotime.Now
}

// Reset begins another attempt in the place of a. The caller sets the endpoint where it is, and
// then calls Expect: an Attempt is large, and copies of it would lie on the stack of each
// goroutine that makes one.
func (a *Attempt) Reset() { *a = Attempt{} }

// Expect sets what is found to what is expected of the endpoint, which no balancer chose.
func (a *Attempt) Expect() { a.Found.TLS, a.Found.Peer = a.Mode.TLS(), a.Endpoint.Peer }

// Balanced records the balancer that has chosen the endpoint, and its ticket: the balancer
// is told the outcome. others is set if it has other endpoints to try.
func (s *Set) Balanced(a *Attempt, b *balance.Balancer, t balance.Ticket, others bool) {
	a.set, a.balancer, a.ticket, a.sent = s, b, t, t.Began
	a.outcome = balance.Outcome{Latency: -1}
	a.Endpoint.Balanced, a.HasOthers = true, others
}

// Reached records the result of the dial of the connection that carries the request.
func (a *Attempt) Reached(r *upstream.Result) {
	a.Found.TLS, a.Found.Peer.Addr, a.Found.Peer.Identity = r.TLS, r.Peer.Addr, r.Peer.Identity
}

// Dialled records that a connection was made first. The time that this took does not count
// as latency, because the next requests do not need it.
func (a *Attempt) Dialled() {
	if a.balancer != nil {
		a.sent = balance.Now()
	}
}

// Chosen returns when a balancer has chosen the endpoint, by monotime.Now, or when a connection to
// it was made after that; 0: none has.
func (a *Attempt) Chosen() time.Duration {
	if a.balancer == nil {
		return 0
	}
	return a.sent
}

// Answered records the status of the final response, whose head came now.
func (a *Attempt) Answered(status int) {
	if a.balancer != nil {
		a.AnsweredAt(status, balance.Now())
	}
}

// AnsweredAt is Answered for a head that came at a time in the past, by monotime.Now.
func (a *Attempt) AnsweredAt(status int, at time.Duration) {
	if a.balancer == nil {
		return
	}
	a.heard = max(at, a.sent)
	a.outcome = balance.Outcome{Latency: a.heard - a.sent, Result: balance.Success}
	if status >= http.StatusInternalServerError {
		a.outcome.Result = balance.Failure
	}
}

// AnsweredCall records the status of a gRPC call, which comes at the end of the response.
func (a *Attempt) AnsweredCall(status int) {
	if a.balancer != nil && a.outcome.Result == balance.Success && tap.GRPCFailure(status) {
		a.heard, a.outcome.Result = balance.Now(), balance.Failure
	}
}

// Failed records why the endpoint gave no answer, or no complete one. It does nothing if
// the reason says nothing about the endpoint.
func (a *Attempt) Failed(why mesh.Reason) {
	if a.balancer == nil {
		return
	}
	if result := resultOf(why); result != balance.Unknown {
		a.heard, a.outcome.Result, a.why = balance.Now(), result, why
	}
}

// Connected records that the endpoint of an opaque connection was reached. Nothing else
// tells the state of such an endpoint.
func (a *Attempt) Connected() {
	if a.balancer != nil {
		a.heard, a.outcome.Result = balance.Now(), balance.Success
	}
}

// resultOf returns what a failure says about the endpoint.
func resultOf(why mesh.Reason) balance.Result {
	switch {
	case upstream.TriesNextEndpoint(why):
		return balance.Unreachable
	case why == mesh.ReasonUpstreamReset, why == mesh.ReasonBadResponse, why == mesh.ReasonResponseHeader, why == mesh.ReasonTimeout:
		return balance.Failure
	}
	return balance.Unknown // the client or this node has caused it
}

// Done tells the balancer that the attempt has ended, and its outcome.
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
