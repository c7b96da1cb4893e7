package l7proxy

import (
	"net/http"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/mesh"
)

// load is what a balancer wants to hear of a Choice. The zero value is of a
// choice that no balancer made: there was nothing to choose from.
type load struct {
	proxy    *Proxy
	balancer *balance.Balancer
	ticket   balance.Ticket
	outcome  balance.Outcome
	sent     time.Duration // from when the endpoint has had the request, at most
	why      mesh.Reason   // of a failure
	heard    time.Duration // when outcome was set
}

func newLoad(p *Proxy, b *balance.Balancer, t balance.Ticket) load {
	return load{proxy: p, balancer: b, ticket: t, sent: t.Began, outcome: balance.Outcome{Latency: -1}}
}

// balanced reports whether the endpoint was chosen among others, or could have
// been.
func (c *Choice) balanced() bool { return c.load.balancer != nil }

// dialled notes that a connection had to be made first: that takes long once,
// and tells nothing of the requests to come.
func (c *Choice) dialled() {
	if c.load.balancer != nil {
		c.load.sent = balance.Now()
	}
}

// answered notes the head of the final response: its status, and that it came
// now.
func (c *Choice) answered(status int) {
	l := &c.load
	if l.balancer == nil {
		return
	}
	l.heard = balance.Now()
	l.outcome = balance.Outcome{Latency: l.heard - l.sent, Result: balance.Success}
	if status >= http.StatusInternalServerError {
		l.outcome.Result = balance.Failure
	}
}

// answeredCall is answered for the status of a gRPC call, which comes at its
// end.
func (c *Choice) answeredCall(status int) {
	if c.load.balancer != nil && c.load.outcome.Result == balance.Success && grpcBlames(status) {
		c.load.heard, c.load.outcome.Result = balance.Now(), balance.Failure
	}
}

// grpcBlames reports whether a gRPC status blames the server, as Linkerd has it.
func grpcBlames(status int) bool {
	const deadlineExceeded, permissionDenied, internal, unavailable, dataLoss = 4, 7, 13, 14, 15
	switch status {
	case deadlineExceeded, permissionDenied, internal, unavailable, dataLoss:
		return true
	}
	return false
}

// failed notes why the endpoint gave no answer, or no complete one. What tells
// nothing of the endpoint changes nothing.
func (c *Choice) failed(why mesh.Reason) {
	l := &c.load
	if l.balancer == nil {
		return
	}
	if result := resultOf(why); result != balance.Unknown {
		l.heard, l.outcome.Result, l.why = balance.Now(), result, why
	}
}

// connected notes that the endpoint was reached, where nothing else tells how
// it is: the connection is opaque.
func (c *Choice) connected() {
	if c.load.balancer != nil {
		c.load.heard, c.load.outcome.Result = balance.Now(), balance.Success
	}
}

// resultOf is what a failure tells about the endpoint.
func resultOf(why mesh.Reason) balance.Result {
	switch {
	case elsewhere(why):
		return balance.Unreachable
	case why == mesh.ReasonUpstreamReset, why == mesh.ReasonBadResponse, why == mesh.ReasonTimeout:
		return balance.Failure
	}
	return balance.Unknown // the client's doing, or our own
}

// Done tells the balancer that the request is over, and how it ended. Call it
// exactly once.
func (c *Choice) Done() {
	l := &c.load
	if l.balancer == nil {
		return
	}
	b := l.balancer
	l.balancer = nil
	switch b.Done(l.ticket, l.heard, l.outcome) {
	case balance.Away:
		l.proxy.absent(c, l.why, b)
	case balance.Ejected:
		l.proxy.absences.ejections.failures.Add(1)
	}
}
