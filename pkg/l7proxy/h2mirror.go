package l7proxy

import (
	"context"
	"slices"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
)

// A copy of a request is a stream without a client: its server has no
// connection, and what would go to one goes nowhere. It is made when the whole
// request is there, which it is not where the answer begins before.

// mirror makes the copies of the request that the routes want, if it is whole.
func (st *h2stream) mirror(b *h2batch) {
	if !st.copying || !st.req.end || !st.keeping || st.answered {
		return
	}
	st.copying = false
	for to := range st.plan.mirrored {
		st.startCopy(to, b)
	}
}

// dropCopies counts those that could not be made.
func (st *h2stream) dropCopies() {
	if !st.copying {
		return
	}
	st.copying = false
	for range st.plan.mirrored {
		st.srv.session.proxy.mirrors.dropped.Add(1)
	}
}

func (st *h2stream) startCopy(to *place, b *h2batch) {
	m := &st.srv.session.proxy.mirrors
	if to.svc == nil {
		m.dropped.Add(1)
		return
	}
	if !m.enter() {
		return
	}
	copied := newH2Stream(&h2server{session: st.srv.session, pool: st.srv.pool, mirror: to}, 0)
	copied.fields = slices.Clone(st.fields)
	copied.replay = append([]byte(nil), st.replay...)
	copied.grpc, copied.head, copied.bodyless = st.grpc, st.head, st.bodyless
	copied.req.pending.bytes, copied.req.prepaid = slices.Clone(st.replay), len(st.replay)
	copied.req.end, copied.req.done = true, st.bodyless
	copied.resp.sink = true
	copied.mu.Lock()
	defer copied.mu.Unlock()
	copied.limit = copied.after(mirrorTime, wholeStream, (*h2stream).requestLate)
	copied.srv.unhook = context.AfterFunc(m.ctx, func() {
		var b h2batch
		copied.clientGone(mesh.ReasonClientReset, http2.Cancel, &b)
		b.flush()
	})
	copied.start(noEndpoint, nil, b)
}

// endCopy is for the end of a copy.
func (srv *h2server) endCopy(why mesh.Reason) {
	srv.unhook()
	srv.session.proxy.mirrors.leave(why == mesh.ReasonNone)
}

// headers, reset and forget are those of the client's connection, if there is
// one.

func (srv *h2server) headers(id uint32, fields []http2.Field, end bool, b *h2batch) error {
	if srv.mirror != nil {
		return nil
	}
	return srv.h2conn.headers(id, fields, end, b)
}

func (srv *h2server) reset(id uint32, code http2.ErrCode, b *h2batch) {
	if srv.mirror == nil {
		srv.h2conn.reset(id, code, b)
	}
}

func (srv *h2server) forget(id uint32, b *h2batch) {
	if srv.mirror == nil {
		srv.h2conn.forget(id, b)
	}
}
