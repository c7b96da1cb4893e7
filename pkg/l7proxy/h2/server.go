package h2

import (
	"errors"
	"slices"
	"strconv"

	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
)

// Attach implements upstream.Stream.
func (st *attempts) Attach(u *upstream.HTTP2Conn, b *h2conn.Batch) bool {
	st.attempt.Reached(&u.Result)
	id, err := u.Open(st.whole(), st.turn, st.fields, st.bodyless, b)
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
		st.exchange.Settles(&u.Took)
		return true // u calls Connected when they have arrived
	case err != nil:
		return false
	}
	st.up, st.upID = u, id
	st.exchange.Sent(&u.Took)
	st.exchange.Chose(st.attempt)
	st.resp.src, st.resp.srcID = u.Conn, id
	st.req.dst, st.req.dstID = u.Conn, id
	st.req.push(b)
	return true
}

// Connected implements upstream.Stream.
func (st *attempts) Connected(turn int32, u *upstream.HTTP2Conn, err error, b *h2conn.Batch) {
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
		took := upstream.TookOf(err)
		st.exchange.Waits(&took)
		reason := upstream.ReasonOf(err)
		if !upstream.LocalFault(err) {
			st.attempt.Failed(reason)
		}
		if !st.failover(reason, b) && !st.retry(retry.Attempt{Cause: retry.Unsent}, reason, b) {
			st.exchange.Chose(st.attempt)
			r := st.client.s.Unreached(reason)
			st.answer(&r, b)
			if st.mirrored == nil {
				st.client.s.ConnectionEnded() // it was not made
			}
		}
	}
}

// ServerRoom implements upstream.Stream.
func (st *stream) ServerRoom(b *h2conn.Batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.req.push(b)
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

// finalHead takes the head of a final response. It sends the request again, or forwards the
// head.
func (st *stream) finalHead(fields []http2.Field, status int, end bool, b *h2conn.Batch) {
	if request.OffersLogin(status, fields) {
		st.client.s.BindLogin(st.plan.Random)
	}
	if !st.unanswered(status, fields, b) {
		st.exchange.Head2(fields)
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

// serverTrailers takes the trailers of a response.
func (st *stream) serverTrailers(fields []http2.Field, b *h2conn.Batch) {
	turn := st.turn
	if st.releaseHead(b); st.ended || st.turn != turn {
		return // the request is sent again, or was answered
	}
	st.answered = true
	st.forgetRequest()
	st.exchange.Head2(fields)
	st.resp.finish(st.withoutReason(fields), b)
	st.settle(b)
}

// withoutReason removes the field for reasons from an application's response: only agents
// may set it.
func (st *base) withoutReason(fields []http2.Field) []http2.Field {
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
	if !st.exhausts(st.resp, b) {
		st.settle(b)
	}
}

// ServerReset implements upstream.Stream.
func (st *stream) ServerReset(u *upstream.HTTP2Conn, ev *http2.Event, b *h2conn.Batch) {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.up != u || st.gone:
	case st.resp.end: // the response is complete: only the request is cut (RFC 9113 §8.1)
		st.req.abandon(b)
		st.afterwards, st.afterCode = true, ev.Code
		st.settle(b)
	case ev.Retryable && (st.resendRefused(b) || st.retry(retry.Attempt{Cause: retry.Unsent}, mesh.ReasonUpstreamReset, b)):
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
