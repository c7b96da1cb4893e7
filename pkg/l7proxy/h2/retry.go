package h2

import (
	"net/netip"
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
)

// retryState is the history of a stream's attempts.
type retryState struct {
	tried   request.Tried
	refused int // number of times that a server refused the request without processing it
}

// A request that a server refused is sent again up to refusedMost times: at once, then
// after refusedPause, then each time after three times the last pause, 400 ms in all. A
// server refuses streams while it is over a limit, and other streams that end make room.
const (
	refusedMost  = 5
	refusedPause = 10 * time.Millisecond
)

// noEndpoint stands for no endpoint.
var noEndpoint netip.AddrPort

// start chooses an endpoint, another than not if there is one, and sends the request
// there, on another connection than refused if there can be one.
func (st *attempts) start(not netip.AddrPort, refused *upstream.HTTP2Conn, b *h2conn.Batch) {
	a, err := st.client.pick(st.whole(), not)
	if err != nil {
		why := upstream.ReasonOf(err)
		st.fail(why, b)
		st.mayConnectAgain(why)
		return
	}
	st.rules = a.Rules
	st.leaving = request.Leaving(st.client.s, &st.plan, a)
	st.send(a, refused, b)
}

// mayConnectAgain ends the connection of a client that was refused for want of an identity.
// Its next one may have one: its agent was away when it made this one.
func (st *base) mayConnectAgain(why mesh.Reason) {
	if why == mesh.ReasonNoIdentity && st.mirrored == nil {
		st.client.s.ConnectionEnded()
	}
}

// send begins an attempt.
func (st *attempts) send(a *endpoints.Attempt, refused *upstream.HTTP2Conn, b *h2conn.Batch) {
	st.attempt = a
	if limit := st.plan.Timeouts().BackendRequest; limit > 0 {
		st.timer = st.after(limit, st.turn, (*stream).attemptLate)
	}
	st.open(refused, b)
}

// open puts the attempt on a connection.
func (st *attempts) open(refused *upstream.HTTP2Conn, b *h2conn.Batch) {
	s := st.client.s
	if !s.Upstream.OpenHTTP2(&st.attempt.Endpoint, s, st.whole(), st.turn, st.bodyless, refused, b) {
		st.fail(mesh.ReasonOverload, b)
	}
}

// failover sends a request that no application has seen to another endpoint, because the
// attempt failed for the reason why. It returns false if there is no other attempt.
func (st *attempts) failover(why mesh.Reason, b *h2conn.Batch) bool {
	if !upstream.TriesNextEndpoint(why) || !st.resendable() {
		return false
	}
	next := st.client.failover(st.attempt, why, &st.state().tried)
	if next == nil {
		return false
	}
	st.exchange.Attempted(st.attempt, st.exchange.Elapsed(), 0, -1, why)
	st.leave(b)
	st.send(next, nil, b)
	return true
}

// state returns the history of the attempts, which it makes if there is none.
func (st *base) state() *retryState {
	if st.history == nil {
		st.history = &retryState{tried: request.Tried{Backend: st.to()}}
	}
	return st.history
}

// resendRefused sends a request again that the server refused without processing it (RFC
// 9113 §8.7), on another connection if there can be one. It returns false if there is no
// other attempt.
func (st *attempts) resendRefused(b *h2conn.Batch) bool {
	if st.answered || !st.keeping {
		return false
	}
	history := st.state()
	pause := time.Duration(0)
	if history.refused > 0 {
		pause = refusedPause
		for range history.refused - 1 {
			pause *= 3
		}
	}
	if history.refused == refusedMost || st.deadline != 0 && balance.Now()+pause >= st.deadline {
		return false
	}
	history.refused++
	not, refused := st.attempt.Peer.Addr, st.up
	st.exchange.Attempted(st.attempt, st.exchange.Elapsed(), 0, -1, mesh.ReasonUpstreamReset)
	st.leave(b)
	if pause == 0 {
		st.start(not, refused, b)
	} else {
		st.timer = st.after(pause, st.turn, func(st *stream, b *h2conn.Batch) { st.start(not, refused, b) })
	}
	return true
}

// retry sends a failed request again if the routes ask for that, after the pause that they
// ask for. why says what has failed if there was no response. It returns false if there is
// no other attempt.
func (st *attempts) retry(failure retry.Attempt, why mesh.Reason, b *h2conn.Batch) bool {
	if !st.plan.Policy().RetriesSent() {
		return false
	}
	failure.GRPC, failure.Method = st.grpc, fieldValue(st.fields, ":method")
	failure.ResponseStarted, failure.BodyKept = st.answered, st.resendable()
	left := request.NoDeadline
	if st.deadline != 0 {
		left = st.deadline - balance.Now()
	}
	wait, ok := st.retries.Next(st.client.s, &st.plan, failure, left)
	if !ok {
		return false
	}
	st.retries.Begin(&st.exchange)
	st.exchange.Attempted(st.attempt, st.exchange.Elapsed(), failure.Status, st.grpcStatus, why)
	not := st.attempt.Peer.Addr
	st.leave(b)
	st.timer = st.after(wait, st.turn, func(st *stream, b *h2conn.Batch) { st.start(not, nil, b) })
	return true
}

// unanswered judges the head of a final response. It returns true if the request is sent
// again, and the head is not for the client.
func (st *attempts) unanswered(status int, fields []http2.Field, b *h2conn.Batch) bool {
	st.attempt.Answered(status)
	var miss request.Miss
	if !st.answered {
		miss = request.Missed(st.attempt, st.grpc, status, fieldValue(fields, reply.ReasonHeader))
	}
	st.attempt.Failed(miss.Reason)
	if miss.MovesOn(fieldValue(st.fields, ":method")) && st.failover(miss.Reason, b) {
		return true
	}
	if !st.plan.Policy().RetriesSent() {
		return false
	}
	if st.grpcStatus > 0 {
		st.attempt.AnsweredCall(st.grpcStatus)
	}
	return st.retry(retry.Attempt{Cause: retry.Status, Status: status, GRPCStatus: st.grpcStatus}, miss.Reason, b)
}

// broken sends a request again whose connection or stream ended, for the reason why. It
// returns false if there is no other attempt.
func (st *attempts) broken(why mesh.Reason, b *h2conn.Batch) bool {
	cause, ok := request.Cause(why, false)
	if !ok {
		return false
	}
	st.attempt.Failed(why)
	// Where nothing is at the other end any more, what may be sent twice goes to another
	// endpoint, whatever the routes say.
	if upstream.Deserted(why) && !st.answered && retry.Idempotent(fieldValue(st.fields, ":method")) && st.failover(why, b) {
		return true
	}
	return st.retry(retry.Attempt{Cause: cause}, why, b)
}

// to is the backend that the request is sent to; nil: the destination of the client.
func (st *base) to() *destination.Backend {
	if st.mirrored != nil {
		return st.mirrored.to
	}
	return st.plan.Backend()
}

// resendable reports whether all of the request that was sent is still stored.
func (st *attempts) resendable() bool { return st.up == nil || st.keeping }

// leave ends an attempt. Another one follows.
func (st *attempts) leave(b *h2conn.Batch) {
	st.turn++
	stopTimer(&st.timer)
	st.dropHead()
	st.stopWaiting()
	st.attempt.Done()
	st.attempt = nil
	st.grpcStatus = -1
	if st.up == nil {
		return
	}
	st.up.Reset(st.upID, http2.Cancel, b)
	st.up.Leave(st.upID, b)
	st.up = nil
	st.resp.src = nil
	st.resp.narrow()
	st.rewind()
}

// stopWaiting ends the attempt's wait for a connection, or for the response.
func (st *base) stopWaiting() {
	var took upstream.Took
	if st.up == nil {
		took = st.client.s.Upstream.ForgetHTTP2(&st.attempt.Endpoint, st.whole())
	}
	st.exchange.Waits(&took)
}

// rewind puts the body that was sent in front of what was not sent. It makes a new pipe,
// because the old one may be waiting for room on its connection.
func (st *base) rewind() {
	old := st.req
	st.req = &pipe{
		stream: old.stream, src: old.src, srcID: old.srcID,
		pending: quota.Backlog{Bytes: slices.Clone(st.replay)}, prepaid: len(st.replay) - old.pending.Len() + old.prepaid,
		end: old.end, done: st.bodyless, length: old.length, window: old.window,
	}
	old.window = window{}
	old.done = true
	old.pending.Drop()
	old.account()
	st.req.account()
}

// due sets the deadline of the request to d from now, unless it has an earlier one.
func (st *base) due(d time.Duration) {
	if at := balance.Now() + d; st.deadline == 0 || at < st.deadline {
		st.deadline = at
	}
}

// requestLate ends the request, because the time for all of its attempts is over.
func (st *attempts) requestLate(b *h2conn.Batch) {
	if !st.resp.end { // else the whole response has arrived, and the client is slow
		st.failLate(b)
	}
}

// attemptLate ends the attempt, because its time is over.
func (st *attempts) attemptLate(b *h2conn.Batch) {
	if st.resp.end {
		return
	}
	st.attempt.Failed(mesh.ReasonTimeout)
	if !st.retry(retry.Attempt{Cause: retry.TimedOut}, mesh.ReasonTimeout, b) {
		st.failLate(b)
	}
}

func (st *ending) failLate(b *h2conn.Batch) {
	if st.attempt != nil && st.up == nil {
		st.exchange.Chose(st.attempt) // tap shows the endpoint that was not reached
	}
	st.failAfter(mesh.ReasonTimeout, b)
}
