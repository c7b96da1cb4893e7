package h2

import (
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/jwt"
)

// replayMax is the largest request body, in bytes, that is kept for another attempt.
const replayMax = 64 << 10

// replayFree is the largest one, in bytes, that is not charged to the pod: most requests
// have one of less, for a moment.
const replayFree = 1 << 10

// stream is one request and its response. It is made of layers, each of which embeds the one
// below it and calls none above: base, ending, attempts. stream itself has what the client
// and the endpoint do, and what routes, tokens and authorizers say to that.
type stream struct{ attempts }

// attempts sends the request to endpoints, one after the other, until one of them has
// responded (retry.go, server.go, mirror.go).
type attempts struct{ ending }

// ending answers the client, and ends the stream on both connections (answer.go).
type ending struct{ base }

// base has the facts of the request and the response.
type base struct {
	client   *session
	id       uint32      // on the client's connection
	mirrored *mirrorCopy // if the stream is a copy, which has no client; else nil

	mu       sync.Mutex
	upID     uint32              // on up
	up       *upstream.HTTP2Conn // nil until the request is sent
	req      *pipe
	resp     *pipe
	attempt  *endpoints.Attempt
	first    endpoints.Attempt // memory of the first attempt
	exchange request.Exchange

	fields      []http2.Field        // the request's head, until the response begins, or longer: keepHead
	token       *jwt.Token           // of the request; nil: none
	check       *request.Check       // by an external authorizer; nil: none is asked
	replay      []byte               // the body that was received so far, while keeping is set
	kept        *memory              // memory of fields and replay
	headCharged quota.Charge         // of fields, if they are kept after the response has begun
	leaving     *destination.Leaving // what EgressNetworks look at of it; nil: nothing
	rules       *authz.Workload      // by which the request was let in, if policies have looked at it; else nil
	bodyless    bool                 // the head had END_STREAM
	keeping     bool                 // replay has all of the body so far: another attempt is possible
	answered    bool                 // a part of the response was sent to the client
	headed      bool                 // the head of the final response was
	ended       bool                 // exchange.End was called
	gone        bool                 // the stream was removed from both connections
	counted     bool                 // the pod's usage counts it
	collecting  bool                 // check waits for the body
	copying     bool                 // copies are to be made when the request is complete

	grpc, head bool
	afterwards bool          // the rest of the request is not wanted: reset the stream when the response was sent
	afterCode  http2.ErrCode // the code of that reset
	grpcStatus int           // -1: none was seen

	held     *heldHead // head of a gRPC response, until it is known whether the call fails
	plan     request.Plan
	turn     int32       // number of the attempt
	history  *retryState // nil: no attempt has failed
	retries  request.Retries
	deadline time.Duration // time, by balance.Now, when the whole exchange must end; 0: none
	limit    *timer        // timer of the whole exchange, or nil
	timer    *timer        // timer of the attempt, or of the wait for the next one, or nil
}

// whole is the stream that has this base, for those who call it back: a connection, a timer.
func (st *base) whole() *stream { return st.req.stream }

// newStream makes a stream, in one allocation.
func newStream(client *session, id uint32) *stream {
	m := &struct {
		stream    stream
		req, resp pipe
	}{}
	st := &m.stream
	st.base = base{client: client, id: id, req: &m.req, resp: &m.resp, keeping: true, grpcStatus: -1}
	m.req = pipe{stream: st, src: client.Conn, srcID: id}
	m.resp = pipe{stream: st, dst: client.Conn, dstID: id}
	return st
}

// begin starts a request whose head has arrived.
func (st *stream) begin(ev *http2.Event, b *h2conn.Batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	line := requestLine(ev.Fields)
	st.grpc, st.head = line.GRPC, line.Method == "HEAD"
	st.bodyless = ev.EndStream
	st.req.end, st.req.done = ev.EndStream, ev.EndStream
	if st.client.s.Observes() {
		observe(st.client.s, ev.Fields, &line)
	}
	if st.client.s.Outside() {
		line.Outside = st.client.s.OutsideName(line.Authority)
	}
	st.exchange.Begin(st.client.s, uint64(st.id), line)
	if ev.TooLarge {
		st.fail(mesh.ReasonHeaderTooLarge, b)
		return
	}
	st.exchange.Head2(ev.Fields)
	if st.counted = st.client.s.Quota.BeginStream(); !st.counted {
		st.fail(mesh.ReasonOverload, b)
		return
	}
	if line.BindsLogin {
		st.client.s.BindLogin(st.client.s.RouteRandom())
	}
	st.keepRequest(ev.Fields)
	if st.grpc {
		st.boundCall()
	}
	r := st.client.s.Target.Routing()
	if st.client.s.Target.Ingress() {
		var err error
		if r, err = st.name(line.Authority); err != nil {
			st.fail(upstream.ReasonOf(err), b)
			return
		}
	}
	if r != nil {
		st.route(r, &line, b)
	} else {
		if !st.authenticate(b) {
			return
		}
		if st.check = st.client.s.PolicyCheck((*asker)(st)); st.check != nil {
			st.ask(b)
			return
		}
		st.forward(b)
	}
}

func (st *stream) clientData(payload []byte, end bool, b *h2conn.Batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.keeping {
		if len(st.replay)+len(payload) > replayMax || st.client.s.Quota.OverLimit() {
			st.forgetBody() // too much for a second attempt, or too much waits already
		} else {
			st.replay = append(st.replay, payload...)
		}
	}
	st.req.data(payload, end, b)
	st.req.account() // what is kept for another attempt, too
	if st.exhausts(st.req, b) {
		return
	}
	if st.collecting {
		st.ask(b)
	}
	st.mirror(b)
	st.settle(b)
}

// exhausts ends a stream of which bytes wait while far too many of its pod's wait.
func (st *ending) exhausts(p *pipe, b *h2conn.Batch) bool {
	if p.pending.Len() == 0 || !st.client.s.Quota.Exhausted() {
		return false
	}
	st.failAfter(mesh.ReasonOverload, b)
	return true
}

func (st *stream) clientTrailers(fields []http2.Field, b *h2conn.Batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.forgetBody() // trailers are not kept for a second attempt
	st.req.finish(fields, b)
	if st.collecting {
		st.ask(b)
	}
	st.settle(b)
}

func (st *ending) pushResponse(b *h2conn.Batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.resp.push(b)
	st.settle(b)
}

// clientGone ends a stream that the client cancelled, or whose connection ended. It reports
// whether the client had got nothing of the response.
func (st *ending) clientGone(reason mesh.Reason, code http2.ErrCode, b *h2conn.Batch) (vain bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	vain = !st.gone && !st.answered
	st.cut(reason, code, code, b)
	return vain
}

// settle ends the exchange if the response is complete, and the stream if the request is
// complete or not wanted any more.
func (st *ending) settle(b *h2conn.Batch) {
	if st.gone || !st.resp.done {
		return
	}
	st.end(request.End{})
	switch {
	case st.req.done && st.req.end:
		st.takeOff(b)
	case st.afterwards:
		st.resetClient(st.afterCode, b)
		st.req.abandon(b)
		st.takeOff(b)
	case st.mirrored != nil: // a copy does not wait until the server has read the rest
		st.up.Reset(st.upID, http2.Cancel, b)
		st.req.abandon(b)
		st.takeOff(b)
	}
}

// cut resets the stream on both connections, with a code for each.
func (st *ending) cut(reason mesh.Reason, client, server http2.ErrCode, b *h2conn.Batch) {
	if st.gone {
		return
	}
	st.req.abandon(b)
	st.resp.abandon(b)
	st.resetClient(client, b)
	if st.up != nil {
		st.up.Reset(st.upID, server, b)
	}
	st.end(request.End{Reason: reason, Reset: true, ResetCode: uint32(client)})
	st.takeOff(b)
}

// takeOff removes the stream from both connections. It is called once for each stream.
func (st *ending) takeOff(b *h2conn.Batch) {
	st.gone = true
	if st.counted {
		st.client.s.Quota.EndStream()
	}
	st.req.account()
	st.resp.account()
	st.req.narrow()
	st.resp.narrow()
	st.forgetRequest()
	if st.mirrored == nil {
		st.client.forget(st.id, b)
	}
	if st.up != nil {
		st.up.Leave(st.upID, b)
	}
}

// end ends the exchange. Further calls do nothing.
func (st *ending) end(e request.End) {
	if st.ended {
		return
	}
	st.ended = true
	stopTimer(&st.limit)
	stopTimer(&st.timer)
	st.dropHead()
	e.RequestLen, e.ResponseLen = st.req.length, st.resp.length
	if st.grpc && e.GRPCStatus == 0 {
		e.GRPCStatus = st.finalGRPCStatus(&e)
	}
	if a := st.attempt; a != nil {
		if st.up == nil {
			st.stopWaiting()
		}
		a.Failed(e.Reason)
		if st.grpc && e.Reason == mesh.ReasonNone {
			a.AnsweredCall(e.GRPCStatus)
		}
		a.Done()
	}
	if st.mirrored != nil {
		st.mirrored.end(st.whole(), e.Reason)
		return
	}
	st.dropCopies()
	st.exchange.End(e)
}
