package h2

import (
	"unsafe"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/route"
)

// fieldSize is the memory of a field in bytes, without its texts.
const fieldSize = int(unsafe.Sizeof(http2.Field{}))

// keepHead keeps the head of a request after its response has begun, if policies or an
// EgressNetwork have looked at it: they judge it again when they change. It returns false if the
// head is not kept.
func (st *base) keepHead() bool {
	if st.rules == nil && !looksOutside(st) || st.gone {
		return false
	}
	if st.headCharged != (quota.Charge{}) {
		return true
	}
	size := (cap(st.fields) + cap(st.kept.unedited)) * fieldSize
	for _, fields := range [...][]http2.Field{st.fields, st.kept.unedited} {
		for i := range fields {
			size += len(fields[i].Name) + len(fields[i].Value)
		}
	}
	if !request.KeepsHead(size, st.client.s.Quota) {
		return false
	}
	if cap(st.kept.replay) > replayFree {
		st.kept.replay = nil // the head alone is kept
	}
	st.headCharged.Set(size+cap(st.kept.replay), st.client.s.Quota)
	return true
}

// Underway returns the sessions that of reports.
func (d *Driver) Underway(of func(*request.Session) bool) (out []request.Underway) {
	d.sessions.Each(func(srv *session) {
		if of(srv.s) {
			out = append(out, srv)
		}
	})
	return out
}

// Rejudge implements request.Underway. Other streams of the connection go on.
func (srv *session) Rejudge(judge request.Judge) (cut int) {
	for _, st := range srv.streams.All() {
		var b h2conn.Batch
		if st.rejudge(judge, &b) {
			cut++
		}
		b.Flush()
	}
	return cut
}

// EndIdle implements request.Underway. The client makes no further request, and one that is just
// coming is refused (RFC 9113 §6.8). It returns false, because what is under way is not looked at.
func (srv *session) EndIdle() bool {
	srv.Drain()
	return false
}

// rejudge ends the request if it is refused now, and reports whether it did.
func (st *stream) rejudge(judge request.Judge, b *h2conn.Batch) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.gone || st.attempt == nil { // without an attempt it is judged when there is one
		return false
	}
	u := destination.Underway{Rules: st.rules}
	if st.leaving != nil {
		u.Leaving = *st.leaving
	}
	if st.fields != nil {
		u.Asked = (*asker)(st)
		u.Leaving.Asked = asLeaving(&st.base)
	}
	now := judge(st.client.s, u)
	if now.Err == nil {
		if st.leaving != nil {
			st.leaving.By = now.By
		}
		if st.rules != nil {
			st.rules = now.Rules
		}
		return false
	}
	if now.Entry != nil {
		st.exchange.Judged(now.Entry)
	}
	st.revoke(upstream.ReasonOf(now.Err), b)
	return true
}

// looksOutside reports whether an EgressNetwork has looked at the request.
func looksOutside(st *base) bool { return st.leaving != nil && st.leaving.By.LooksAtRequests() }

// asLeaving describes the request as the client has sent it for an EgressNetwork, nil if none
// has looked at it.
func asLeaving(st *base) *route.Request {
	if !looksOutside(st) {
		return nil
	}
	fields := &st.fields
	if st.kept != nil && st.kept.unedited != nil {
		fields = &st.kept.unedited
	}
	line := requestLine(*fields)
	asked := routeRequest(&line, fields)
	return &asked
}

// revoke ends a request that was let in. One of whose response nothing was sent is answered
// with the reason, and a gRPC call ends with its status. Otherwise the stream is reset: a
// response that is not complete must not look like one.
func (st *stream) revoke(why mesh.Reason, b *h2conn.Batch) {
	if st.resp.end { // the client reads slowly, or its request goes on
		st.cut(why, http2.InternalError, http2.Cancel, b)
		return
	}
	st.failAfter(why, b)
}
