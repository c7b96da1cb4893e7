package h2

import (
	"context"
	"slices"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
)

// mirrorCopy belongs to a stream that is a copy of a request. The copy has no client, and
// its response is dropped. It is made when the whole request has arrived, and not at all if
// the response begins before.
type mirrorCopy struct {
	to      *destination.Backend
	by      *destination.Egress // that has let the request out; nil: none
	mirrors *request.Mirrors
	unhook  func() bool // stops the callback for the end of the proxy
}

// mirror makes the copies of the request that the routes ask for, if it is complete.
func (st *attempts) mirror(b *h2conn.Batch) {
	if !st.copying || !st.req.end || !st.keeping || st.answered {
		return
	}
	st.copying = false
	for to := range st.plan.Mirrored {
		st.startCopy(to, b)
	}
}

// dropCopies counts the copies that could not be made.
func (st *base) dropCopies() {
	if !st.copying {
		return
	}
	st.copying = false
	for range st.plan.Mirrored {
		st.client.s.Mirrors.Drop(1)
	}
}

func (st *attempts) startCopy(to *destination.Backend, b *h2conn.Batch) {
	m := &st.client.s.Mirrors
	if to.Service == nil {
		m.Drop(1)
		return
	}
	if !m.Enter() {
		return
	}
	copied := newStream(st.client, 0)
	copied.mirrored = &mirrorCopy{to: to, by: st.plan.Egress, mirrors: m}
	copied.fields = slices.Clone(st.fields)
	copied.replay = append([]byte(nil), st.replay...)
	copied.grpc, copied.head, copied.bodyless = st.grpc, st.head, st.bodyless
	copied.req.src = nil // the bytes are a copy: no window is to be returned
	copied.req.pending.Bytes, copied.req.prepaid = slices.Clone(st.replay), len(st.replay)
	copied.req.end, copied.req.done = true, st.bodyless
	copied.resp.dst, copied.resp.sink = nil, true
	copied.mu.Lock()
	defer copied.mu.Unlock()
	copied.limit = copied.after(request.MirrorTimeout, wholeStream, (*stream).requestLate)
	copied.mirrored.unhook = context.AfterFunc(st.client.s.Lifetime.Ended, func() {
		var b h2conn.Batch
		copied.clientGone(mesh.ReasonClientReset, http2.Cancel, &b)
		b.Flush()
	})
	m.Track(copied)
	copied.start(noEndpoint, nil, b)
}

// Rejudge implements request.Copy.
func (st *stream) Rejudge() (cut bool) {
	var b h2conn.Batch
	st.mu.Lock()
	// Without an attempt it is judged when there is one.
	if !st.gone && st.attempt != nil && st.mirrored.forbidden(st.client.s, st.attempt) {
		st.cut(mesh.ReasonEgressDenied, http2.Cancel, http2.Cancel, &b)
		cut = true
	}
	st.mu.Unlock()
	b.Flush()
	return cut
}

// forbidden reports whether an EgressNetwork does not allow the copy.
func (c *mirrorCopy) forbidden(s *request.Session, a *endpoints.Attempt) bool {
	return request.Forbidden(s, c.to, a.Peer, c.by)
}

// end notes the end of a copy.
func (c *mirrorCopy) end(of *stream, why mesh.Reason) {
	c.unhook()
	c.mirrors.Untrack(of)
	c.mirrors.Leave(why == mesh.ReasonNone)
}
