package l7proxy

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
	"github.com/underlane/underlane/pkg/tap"
)

// h2again is what became of the attempts of a stream so far.
type h2again struct {
	tried   attempts
	refused bool // a server said that it had not begun with the request
	retries int  // for which the routes asked
}

// noEndpoint is the address of no endpoint.
var noEndpoint netip.AddrPort

// start chooses an endpoint, another than not if that can be, and sends the
// request there, but not on a connection that refused it.
func (st *h2stream) start(not netip.AddrPort, refused *h2upstream, b *h2batch) {
	c, err := st.srv.pick(st.to(), not, &st.first)
	if err != nil {
		st.fail(reasonOf(err), b)
		return
	}
	st.send(c, refused, b)
}

// send begins an attempt at the endpoint that was chosen.
func (st *h2stream) send(c *Choice, refused *h2upstream, b *h2batch) {
	st.choice = c
	if limit := st.plan.timeouts().BackendRequest; limit > 0 {
		st.timer = st.after(limit, st.attempt, (*h2stream).attemptLate)
	}
	st.srv.pool.open(st, refused, b)
}

// another sends a request that no application has seen, for this reason, to
// another endpoint. False: the failure stands.
func (st *h2stream) another(why mesh.Reason, b *h2batch) bool {
	if !elsewhere(why) || !st.resendable() {
		return false
	}
	if st.again == nil {
		st.again = &h2again{tried: attempts{to: st.to()}}
	}
	next := st.srv.another(st.choice, why, &st.again.tried)
	if next == nil {
		return false
	}
	st.leave(b)
	st.send(next, nil, b)
	return true
}

// resendRefused sends a request that the server says it has not begun with (RFC
// 9113 §8.7) once more. False: the failure stands.
func (st *h2stream) resendRefused(b *h2batch) bool {
	if st.again != nil && st.again.refused || st.answered || !st.keeping {
		return false
	}
	if st.again == nil {
		st.again = &h2again{tried: attempts{to: st.to()}}
	}
	st.again.refused = true
	not, refused := st.choice.Peer.Addr, st.up
	st.leave(b)
	st.start(not, refused, b)
	return true
}

// retry sends a request that failed again where the routes want that, after
// they want to wait. False: the failure stands.
func (st *h2stream) retry(a retry.Attempt, b *h2batch) bool {
	policy := st.plan.policy()
	if !policy.Resends() {
		return false
	}
	a.GRPC, a.Method = st.grpc, fieldValue(st.fields, ":method")
	a.Answered, a.Body = st.answered, st.resendable()
	if st.again != nil {
		a.Retries = st.again.retries
	}
	if policy.Decide(&a) != retry.Retry {
		return false
	}
	wait := policy.Backoff(a.Retries, rand.Uint64())
	if st.deadline != 0 && st.deadline-balance.Now() <= wait {
		return false
	}
	if !st.plan.routing.budget.Retry(balance.Now()) {
		st.srv.session.proxy.retriesRefused.Add(1)
		return false
	}
	if st.again == nil {
		st.again = &h2again{tried: attempts{to: st.to()}}
	}
	st.again.retries++
	st.exchange.Retried()
	not := st.choice.Peer.Addr
	st.leave(b)
	st.timer = st.after(wait, st.attempt, func(st *h2stream, b *h2batch) { st.start(not, nil, b) })
	return true
}

// unreached is why the agent of the endpoint's node answered, which could not
// give the request to the application; ReasonNone where the application did.
func (st *h2stream) unreached(fields []http2.Field) mesh.Reason {
	if st.answered || !st.choice.balanced() || st.choice.TLS != tap.TLSTrue {
		return mesh.ReasonNone
	}
	if why := mesh.ParseReason(fieldValue(fields, http1.ReasonHeader)); why.Unreached() {
		return why
	}
	return mesh.ReasonNone
}

// unanswered reports whether the head of a final response is not for the client,
// because the request is sent again.
func (st *h2stream) unanswered(status int, ev *http2.Event, b *h2batch) bool {
	st.choice.answered(status)
	why := st.unreached(ev.Fields)
	st.choice.failed(why)
	if why != mesh.ReasonNone && st.another(why, b) {
		return true
	}
	if !st.plan.policy().Resends() {
		return false
	}
	if st.grpcStatus > 0 {
		st.choice.answeredCall(st.grpcStatus)
	}
	return st.retry(retry.Attempt{Cause: retry.Status, Status: status, GRPCStatus: st.grpcStatus}, b)
}

// broken reports whether a request is sent again whose connection or stream
// ended.
func (st *h2stream) broken(why mesh.Reason, b *h2batch) bool {
	if why != mesh.ReasonUpstreamReset && why != mesh.ReasonAgentDown {
		return false
	}
	st.choice.failed(why)
	// A connection that was cut because nobody is there: as of HTTP/1, what may
	// be sent twice goes elsewhere, whatever the routes say.
	if why == mesh.ReasonAgentDown && !st.answered && retry.Idempotent(fieldValue(st.fields, ":method")) && st.another(why, b) {
		return true
	}
	return st.retry(retry.Attempt{Cause: retry.Broken}, b)
}

// to is where the request is sent to, nil where its client wanted.
func (st *h2stream) to() *place {
	if st.srv.mirror != nil {
		return st.srv.mirror
	}
	return st.plan.to()
}

// resendable: all of the request that was sent is here still.
func (st *h2stream) resendable() bool { return st.up == nil || st.keeping }

// leave ends an attempt that another one follows.
func (st *h2stream) leave(b *h2batch) {
	st.attempt++
	stopTimer(&st.timer)
	st.choice.Done()
	st.choice = nil
	st.grpcStatus = -1
	if st.up == nil {
		return
	}
	st.up.reset(st.upID, http2.Cancel, b)
	st.up.leave(st.upID, b)
	st.up = nil
	st.resp.src = nil
	st.rewind()
}

// rewind makes what was sent of the request wait before what was not. The
// pipe is a new one, because the old one may be waiting in its connection.
func (st *h2stream) rewind() {
	old := st.req
	st.req = &h2pipe{
		stream: st, src: old.src, srcID: old.srcID,
		pending: backlog{bytes: slices.Clone(st.replay)}, prepaid: len(st.replay) - old.pending.len() + old.prepaid,
		end: old.end, done: st.bodyless, length: old.length,
	}
	old.done = true
	old.pending.drop()
	old.account()
	st.req.account()
}

// due makes the request end in d at the latest.
func (st *h2stream) due(d time.Duration) {
	if at := balance.Now() + d; st.deadline == 0 || at < st.deadline {
		st.deadline = at
	}
}

// requestLate: the time for the request with all its attempts is over.
func (st *h2stream) requestLate(b *h2batch) {
	if !st.resp.end { // else the rest is the client's
		st.failLate(b)
	}
}

// attemptLate: the time for this attempt is over.
func (st *h2stream) attemptLate(b *h2batch) {
	if st.resp.end {
		return
	}
	st.choice.failed(mesh.ReasonTimeout)
	if !st.retry(retry.Attempt{Cause: retry.TimedOut}, b) {
		st.failLate(b)
	}
}

func (st *h2stream) failLate(b *h2batch) {
	if st.choice != nil && st.up == nil {
		st.exchange.Chose(st.choice) // in vain: tap tells where
	}
	st.failAfter(mesh.ReasonTimeout, b)
}
