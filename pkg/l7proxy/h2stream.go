package l7proxy

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
	"github.com/underlane/underlane/pkg/tap"
)

// h2ReplayMax bounds the request body that is kept for a second attempt.
const h2ReplayMax = 64 << 10

// h2stream is one request and its response.
type h2stream struct {
	srv *h2server
	id  uint32 // on the client's connection

	mu       sync.Mutex
	upID     uint32      // on up
	up       *h2upstream // nil until the request is sent
	req      *h2pipe
	resp     *h2pipe
	choice   *Choice
	first    Choice // memory of the first choice
	exchange Exchange

	fields   []http2.Field // the request's head, until an answer begins
	replay   []byte
	kept     *h2kept // memory of fields and replay
	bodyless bool    // END_STREAM came with the head
	keeping  bool    // replay is all that came of the body: another attempt is possible
	answered bool    // something of a response went to the client
	headed   bool    // the head of the final response did
	ended    bool    // exchange.End was called
	gone     bool    // taken off both connections
	copying  bool    // copies are to be made when the request is whole

	grpc, head bool
	afterwards bool          // the server wants no more of the request: reset it once the response is through
	afterCode  http2.ErrCode // with this code
	grpcStatus int           // -1: not seen

	plan     plan
	attempt  int32         // counts them
	again    *h2again      // nil: no attempt has failed
	deadline time.Duration // of the whole exchange, by balance.Now; 0: none
	limit    *h2timer      // of the whole exchange, or nil
	timer    *h2timer      // of the attempt, or of the wait for the next, or nil
}

// newH2Stream makes a stream, in one piece of memory.
func newH2Stream(srv *h2server, id uint32) *h2stream {
	m := &struct {
		stream    h2stream
		req, resp h2pipe
	}{}
	st := &m.stream
	*st = h2stream{srv: srv, id: id, req: &m.req, resp: &m.resp, keeping: true, grpcStatus: -1}
	m.req = h2pipe{stream: st, src: srv.h2conn, srcID: id}
	m.resp = h2pipe{stream: st, dst: srv.h2conn, dstID: id}
	return st
}

// begin starts a request whose head arrived.
func (st *h2stream) begin(ev *http2.Event, b *h2batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	line := requestLine(ev.Fields)
	st.grpc, st.head = line.GRPC, line.Method == "HEAD"
	st.bodyless = ev.EndStream
	st.req.end, st.req.done = ev.EndStream, ev.EndStream
	st.exchange.Begin(st.srv.session, uint64(st.id), line)
	if ev.TooLarge {
		st.fail(mesh.ReasonHeaderTooLarge, b)
		return
	}
	if st.srv.session.full() {
		st.fail(mesh.ReasonOverload, b)
		return
	}
	if line.binds {
		st.srv.session.bind(st.srv.session.draw())
	}
	st.keepRequest(ev.Fields)
	if st.grpc {
		st.boundCall()
	}
	if r := st.srv.session.routing(); r != nil {
		st.route(r, &line, b)
	} else {
		st.start(noEndpoint, nil, b)
	}
}

// attach sends the request on u, and reports whether u took it.
func (st *h2stream) attach(u *h2upstream, b *h2batch) bool {
	if u.tls == tap.TLSAgentDown && !st.choice.mayFallBack {
		return false
	}
	st.choice.TLS, st.choice.Peer, st.choice.reached = u.tls, u.peer, u.at
	id, err := u.open(st, b)
	switch {
	case errors.Is(err, http2.ErrHeaderTooLarge):
		st.exchange.Chose(st.choice)
		st.fail(mesh.ReasonHeaderTooLarge, b)
		return true
	case errors.Is(err, http2.ErrNoConnectProtocol):
		st.exchange.Chose(st.choice)
		st.fail(mesh.ReasonNotSupported, b)
		return true
	case errors.Is(err, http2.ErrNoSettings):
		return true // u comes back to it
	case err != nil:
		return false
	}
	st.up, st.upID = u, id
	st.exchange.Chose(st.choice)
	st.resp.src, st.resp.srcID = u.h2conn, id
	st.req.dst, st.req.dstID = u.h2conn, id
	st.req.push(b)
	return true
}

// connected is how the dial ended that an attempt waits for.
func (st *h2stream) connected(attempt int32, u *h2upstream, err error, b *h2batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.ended || st.attempt != attempt:
	case err == nil:
		st.choice.dialled()
		if !st.attach(u, b) {
			st.srv.pool.open(st, nil, b)
		}
	default:
		reason := reasonOf(err)
		if !ownFault(err) {
			st.choice.failed(reason)
		}
		if !st.another(reason, b) && !st.retry(retry.Attempt{Cause: retry.Unsent}, b) {
			st.exchange.Chose(st.choice)
			st.fail(reason, b)
		}
	}
}

func (st *h2stream) clientData(payload []byte, end bool, b *h2batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.keeping {
		if len(st.replay)+len(payload) > h2ReplayMax {
			st.forgetBody() // too much for a second attempt
		} else {
			st.replay = append(st.replay, payload...)
		}
	}
	st.req.data(payload, end, b)
	st.mirror(b)
	st.settle(b)
}

func (st *h2stream) clientTrailers(fields []http2.Field, b *h2batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.forgetBody() // trailers are not kept for a second attempt
	st.req.finish(fields, b)
	st.settle(b)
}

func (st *h2stream) pushRequest(b *h2batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.req.push(b)
	st.settle(b)
}

func (st *h2stream) pushResponse(b *h2batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.resp.push(b)
	st.settle(b)
}

// serverHeaders takes a response's head, an interim one, or trailers.
func (st *h2stream) serverHeaders(u *h2upstream, ev *http2.Event, b *h2batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.up != u || st.ended {
		return
	}
	if ev.Trailers || ev.EndStream {
		st.noteGRPCStatus(ev.Fields)
	}
	fields, status := ev.Fields, 0
	if !ev.Trailers {
		status, _ = strconv.Atoi(ev.Fields[0].Value)
	}
	if status >= 200 {
		if offersLogin(status, ev.Fields) {
			st.srv.session.bind(st.plan.draw)
		}
		if st.unanswered(status, ev, b) {
			return
		}
		fields = st.editedResponse(fields, b)
	}
	st.answered = true
	st.forgetRequest()
	if st.srv.session.Direction == mesh.Inbound {
		// Only agents give reasons: what an application says here is not one.
		fields = slices.DeleteFunc(fields, func(f http2.Field) bool { return f.Name == http1.ReasonHeader })
	}
	if ev.Trailers {
		st.resp.finish(fields, b)
		st.settle(b)
		return
	}
	if status >= 200 {
		st.headed = true
		if status >= 400 || ev.EndStream {
			st.exchange.Said(fieldValue(fields, http1.ReasonHeader))
		}
		st.exchange.Response(status)
	}
	switch err := st.srv.headers(st.id, fields, ev.EndStream, b); {
	case errors.Is(err, http2.ErrStreamClosed):
		return // the client cancelled it: clientGone is on its way
	case err != nil: // over the limit that the client set
		st.cut(mesh.ReasonBadResponse, http2.InternalError, http2.Cancel, b)
		return
	}
	if ev.EndStream {
		st.resp.end, st.resp.done = true, true
	}
	st.settle(b)
}

func (st *h2stream) serverData(u *h2upstream, ev *http2.Event, b *h2batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.up != u || st.ended {
		u.mu.Lock()
		u.engine.Consume(ev.Stream, len(ev.Payload))
		u.mu.Unlock()
		return
	}
	st.resp.data(ev.Payload, ev.EndStream, b)
	st.settle(b)
}

// serverReset takes RST_STREAM of the server's, or what counts as one.
func (st *h2stream) serverReset(u *h2upstream, ev *http2.Event, b *h2batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.up != u || st.gone:
	case st.resp.end: // a complete response first: only the request is cut short (RFC 9113 §8.1)
		st.req.abandon(b)
		st.afterwards, st.afterCode = true, ev.Code
		st.settle(b)
	case ev.Retryable && (st.resendRefused(b) || st.retry(retry.Attempt{Cause: retry.Unsent}, b)):
	case ev.Local:
		st.failAfter(mesh.ReasonBadResponse, b)
	case st.broken(mesh.ReasonUpstreamReset, b):
	default:
		st.cut(mesh.ReasonUpstreamReset, ev.Code, http2.NoError, b)
	}
}

// serverGone: the connection that carried st ended.
func (st *h2stream) serverGone(u *h2upstream, reason mesh.Reason, b *h2batch) {
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
func (st *h2stream) clientGone(reason mesh.Reason, code http2.ErrCode, b *h2batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.cut(reason, code, code, b)
}

// settle ends what is complete.
func (st *h2stream) settle(b *h2batch) {
	if st.gone || !st.resp.done {
		return
	}
	st.end(End{})
	switch {
	case st.req.done && st.req.end:
		st.takeOff(b)
	case st.afterwards:
		st.srv.reset(st.id, st.afterCode, b)
		st.req.abandon(b)
		st.takeOff(b)
	case st.srv.mirror != nil: // nobody waits for the server to read the rest
		st.up.reset(st.upID, http2.Cancel, b)
		st.req.abandon(b)
		st.takeOff(b)
	}
}

// cut resets the stream towards both sides, with codes of their own.
func (st *h2stream) cut(reason mesh.Reason, client, server http2.ErrCode, b *h2batch) {
	if st.gone {
		return
	}
	st.req.abandon(b)
	st.resp.abandon(b)
	st.srv.reset(st.id, client, b)
	if st.up != nil {
		st.up.reset(st.upID, server, b)
	}
	st.end(End{Reason: reason, Reset: true, ResetCode: uint32(client)})
	st.takeOff(b)
}

// takeOff removes the stream from both connections.
func (st *h2stream) takeOff(b *h2batch) {
	st.gone = true
	st.req.account()
	st.resp.account()
	st.forgetRequest()
	st.srv.forget(st.id, b)
	if st.up != nil {
		st.up.leave(st.upID, b)
	}
}

// end closes the exchange, once.
func (st *h2stream) end(e End) {
	if st.ended {
		return
	}
	st.ended = true
	stopTimer(&st.limit)
	stopTimer(&st.timer)
	e.RequestLen, e.ResponseLen = st.req.length, st.resp.length
	if st.grpc && e.GRPCStatus == 0 {
		e.GRPCStatus = st.finalGRPCStatus(&e)
	}
	if c := st.choice; c != nil {
		c.failed(e.Reason)
		if st.grpc && e.Reason == mesh.ReasonNone {
			c.answeredCall(e.GRPCStatus)
		}
		c.Done()
	}
	if st.srv.mirror != nil {
		st.srv.endCopy(e.Reason)
		return
	}
	st.dropCopies()
	st.exchange.End(e)
}
