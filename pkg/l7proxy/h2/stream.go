package h2

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
)

// replayMax bounds the request body that is kept for a second attempt.
const replayMax = 64 << 10

// stream is one request and its response.
type stream struct {
	client *session
	id     uint32      // on the client's connection
	copy   *mirrorCopy // it is a copy, which has no client; nil: it is none

	mu       sync.Mutex
	upID     uint32              // on up
	up       *upstream.HTTP2Conn // nil until the request is sent
	req      *pipe
	resp     *pipe
	attempt  *endpoints.Attempt
	first    endpoints.Attempt // memory of the first attempt
	exchange request.Exchange

	fields   []http2.Field // the request's head, until an answer begins
	replay   []byte
	kept     *memory // memory of fields and replay
	bodyless bool    // END_STREAM came with the head
	keeping  bool    // replay is all that came of the body: another attempt is possible
	answered bool    // something of a response went to the client
	headed   bool    // the head of the final response did
	ended    bool    // exchange.End was called
	gone     bool    // taken off both connections
	counted  bool    // the pod's usage counts it
	copying  bool    // copies are to be made when the request is whole

	grpc, head bool
	afterwards bool          // the server wants no more of the request: reset it once the response is through
	afterCode  http2.ErrCode // with this code
	grpcStatus int           // -1: not seen

	held     *heldHead // of a gRPC response, until it is known whether it fails
	plan     request.Plan
	turn     int32       // counts attempts
	again    *retryState // nil: no attempt has failed
	retries  request.Retries
	deadline time.Duration // of the whole exchange, by balance.Now; 0: none
	limit    *timer        // of the whole exchange, or nil
	timer    *timer        // of the attempt, or of the wait for the next, or nil
}

// newStream makes a stream, in one piece of memory.
func newStream(client *session, id uint32) *stream {
	m := &struct {
		stream    stream
		req, resp pipe
	}{}
	st := &m.stream
	*st = stream{client: client, id: id, req: &m.req, resp: &m.resp, keeping: true, grpcStatus: -1}
	m.req = pipe{stream: st, src: client.Conn, srcID: id}
	m.resp = pipe{stream: st, dst: client.Conn, dstID: id}
	return st
}

// begin starts a request whose head arrived.
func (st *stream) begin(ev *http2.Event, b *h2conn.Batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	line := requestLine(ev.Fields)
	st.grpc, st.head = line.GRPC, line.Method == "HEAD"
	st.bodyless = ev.EndStream
	st.req.end, st.req.done = ev.EndStream, ev.EndStream
	st.exchange.Begin(st.client.s, uint64(st.id), line)
	if ev.TooLarge {
		st.fail(mesh.ReasonHeaderTooLarge, b)
		return
	}
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
	if r := st.client.s.Target.Routing(); r != nil {
		st.route(r, &line, b)
	} else {
		st.start(noEndpoint, nil, b)
	}
}

// Attach implements upstream.Stream.
func (st *stream) Attach(u *upstream.HTTP2Conn, b *h2conn.Batch) bool {
	st.attempt.Reached(&u.Result)
	id, err := u.Open(st, st.turn, st.fields, st.bodyless, b)
	switch {
	case errors.Is(err, http2.ErrHeaderTooLarge):
		st.exchange.Chose(st.attempt)
		st.fail(mesh.ReasonHeaderTooLarge, b)
		return true
	case errors.Is(err, http2.ErrNoConnectProtocol):
		st.exchange.Chose(st.attempt)
		st.fail(mesh.ReasonNotSupported, b)
		return true
	case errors.Is(err, http2.ErrNoSettings):
		return true // u comes back to it
	case err != nil:
		return false
	}
	st.up, st.upID = u, id
	st.exchange.Chose(st.attempt)
	st.resp.src, st.resp.srcID = u.Conn, id
	st.req.dst, st.req.dstID = u.Conn, id
	st.req.push(b)
	return true
}

// Connected implements upstream.Stream.
func (st *stream) Connected(turn int32, u *upstream.HTTP2Conn, err error, b *h2conn.Batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.ended || st.turn != turn:
	case err == nil:
		st.attempt.Dialled()
		if !st.Attach(u, b) {
			st.open(nil, b)
		}
	default:
		reason := upstream.ReasonOf(err)
		if !upstream.LocalFault(err) {
			st.attempt.Failed(reason)
		}
		if !st.failover(reason, b) && !st.retry(retry.Attempt{Cause: retry.Unsent}, b) {
			st.exchange.Chose(st.attempt)
			st.fail(reason, b)
		}
	}
}

func (st *stream) clientData(payload []byte, end bool, b *h2conn.Batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.keeping {
		if len(st.replay)+len(payload) > replayMax {
			st.forgetBody() // too much for a second attempt
		} else {
			st.replay = append(st.replay, payload...)
		}
	}
	st.req.data(payload, end, b)
	st.mirror(b)
	st.settle(b)
}

func (st *stream) clientTrailers(fields []http2.Field, b *h2conn.Batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.forgetBody() // trailers are not kept for a second attempt
	st.req.finish(fields, b)
	st.settle(b)
}

// ServerRoom implements upstream.Stream.
func (st *stream) ServerRoom(b *h2conn.Batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.req.push(b)
	st.settle(b)
}

func (st *stream) pushResponse(b *h2conn.Batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.resp.push(b)
	st.settle(b)
}

// ServerHeaders implements upstream.Stream.
func (st *stream) ServerHeaders(u *upstream.HTTP2Conn, ev *http2.Event, b *h2conn.Batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.up != u || st.ended {
		return
	}
	if ev.Trailers || ev.EndStream {
		st.noteGRPCStatus(ev.Fields)
	}
	if ev.Trailers {
		st.serverTrailers(ev.Fields, b)
		return
	}
	status, _ := strconv.Atoi(ev.Fields[0].Value)
	switch {
	case status < 200:
		st.forwardHead(ev.Fields, status, false, b)
	case st.holdHead(ev, status):
	default:
		st.finalHead(ev.Fields, status, ev.EndStream, b)
	}
}

// finalHead takes the head of a final response: the request is sent again, or the
// head forwarded.
func (st *stream) finalHead(fields []http2.Field, status int, end bool, b *h2conn.Batch) {
	if request.OffersLogin(status, fields) {
		st.client.s.BindLogin(st.plan.Random)
	}
	if !st.unanswered(status, fields, b) {
		st.forwardHead(st.editedResponse(fields, b), status, end, b)
	}
}

// forwardHead sends the client a head of a response.
func (st *stream) forwardHead(fields []http2.Field, status int, end bool, b *h2conn.Batch) {
	st.answered = true
	st.forgetRequest()
	fields = st.withoutReason(fields)
	if status >= 200 {
		st.headed = true
		if status >= 400 || end {
			st.exchange.PeerReason(fieldValue(fields, reply.ReasonHeader))
		}
		st.exchange.Response(status)
	}
	switch err := st.sendHead(fields, end, b); {
	case errors.Is(err, http2.ErrStreamClosed):
		return // the client cancelled it: clientGone is on its way
	case err != nil: // over the limit that the client set
		st.cut(mesh.ReasonResponseHeader, http2.InternalError, http2.Cancel, b)
		return
	}
	if end {
		st.resp.end, st.resp.done = true, true
	}
	st.settle(b)
}

// serverTrailers ends a response.
func (st *stream) serverTrailers(fields []http2.Field, b *h2conn.Batch) {
	turn := st.turn
	if st.releaseHead(b); st.ended || st.turn != turn {
		return // the request is sent again, or was answered
	}
	st.answered = true
	st.forgetRequest()
	st.resp.finish(st.withoutReason(fields), b)
	st.settle(b)
}

// withoutReason drops what an application says in the field for reasons: only agents
// give them.
func (st *stream) withoutReason(fields []http2.Field) []http2.Field {
	if st.client.s.Direction != mesh.Inbound {
		return fields
	}
	return slices.DeleteFunc(fields, func(f http2.Field) bool { return f.Name == reply.ReasonHeader })
}

// ServerData implements upstream.Stream.
func (st *stream) ServerData(u *upstream.HTTP2Conn, ev *http2.Event, b *h2conn.Batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.up != u || st.ended {
		u.Consume(ev.Stream, len(ev.Payload))
		return
	}
	if len(ev.Payload) > 0 || ev.EndStream {
		turn := st.turn
		if st.releaseHead(b); st.turn != turn || st.ended {
			u.Consume(ev.Stream, len(ev.Payload))
			return
		}
	}
	st.resp.data(ev.Payload, ev.EndStream, b)
	st.settle(b)
}

// ServerReset implements upstream.Stream.
func (st *stream) ServerReset(u *upstream.HTTP2Conn, ev *http2.Event, b *h2conn.Batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.up != u || st.gone:
	case st.resp.end: // a complete response first: only the request is cut short (RFC 9113 §8.1)
		st.req.abandon(b)
		st.afterwards, st.afterCode = true, ev.Code
		st.settle(b)
	case ev.Retryable && (st.resendRefused(b) || st.retry(retry.Attempt{Cause: retry.Unsent}, b)):
	case ev.TooLarge:
		st.failAfter(mesh.ReasonResponseHeader, b)
	case ev.Local:
		st.failAfter(mesh.ReasonBadResponse, b)
	case st.broken(mesh.ReasonUpstreamReset, b):
	default:
		st.cut(mesh.ReasonUpstreamReset, ev.Code, http2.NoError, b)
	}
}

// ServerGone implements upstream.Stream.
func (st *stream) ServerGone(u *upstream.HTTP2Conn, err error, b *h2conn.Batch) {
	reason := upstream.HTTP2Reason(err)
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.up != u || st.gone:
	case st.resp.end:
		st.req.abandon(b)
		st.afterwards, st.afterCode = true, http2.NoError
		st.settle(b)
	case st.broken(reason, b):
	default:
		st.failAfter(reason, b)
	}
}

// clientGone: the client cancelled the stream, or its connection ended.
func (st *stream) clientGone(reason mesh.Reason, code http2.ErrCode, b *h2conn.Batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.cut(reason, code, code, b)
}

// settle ends what is complete.
func (st *stream) settle(b *h2conn.Batch) {
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
	case st.copy != nil: // nobody waits for the server to read the rest
		st.up.Reset(st.upID, http2.Cancel, b)
		st.req.abandon(b)
		st.takeOff(b)
	}
}

// cut resets the stream towards both sides, with codes of their own.
func (st *stream) cut(reason mesh.Reason, client, server http2.ErrCode, b *h2conn.Batch) {
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

// takeOff removes the stream from both connections.
func (st *stream) takeOff(b *h2conn.Batch) {
	st.gone = true
	if st.counted {
		st.client.s.Quota.EndStream()
	}
	st.req.account()
	st.resp.account()
	st.forgetRequest()
	if st.copy == nil {
		st.client.forget(st.id, b)
	}
	if st.up != nil {
		st.up.Leave(st.upID, b)
	}
}

// end closes the exchange, once.
func (st *stream) end(e request.End) {
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
		st.forgetWait()
		a.Failed(e.Reason)
		if st.grpc && e.Reason == mesh.ReasonNone {
			a.AnsweredCall(e.GRPCStatus)
		}
		a.Done()
	}
	if st.copy != nil {
		st.copy.end(e.Reason)
		return
	}
	st.dropCopies()
	st.exchange.End(e)
}
