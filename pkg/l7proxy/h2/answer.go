package h2

import (
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
)

// requestLine returns the parts of a request's field section that tap shows.
func requestLine(fields []http2.Field) request.Line {
	line := request.Line{Protocol: "http2"}
	host := ""
	for i := range fields {
		f := &fields[i]
		switch f.Name {
		case ":method":
			line.Method = f.Value
		case ":scheme":
			line.Scheme = f.Value
		case ":authority":
			line.Authority = f.Value
		case ":path":
			line.Path = f.Value
		case "host":
			host = f.Value
		case "authorization", "proxy-authorization":
			line.BindsLogin = line.BindsLogin || http1.CredentialsBind(f.Value)
		case "content-type":
			if mesh.IsGRPC(f.Value) {
				line.GRPC, line.Protocol = true, "grpc"
			}
		}
	}
	if line.Authority == "" {
		line.Authority = host
	}
	return line
}

func (st *base) noteGRPCStatus(fields []http2.Field) {
	if !st.grpc {
		return
	}
	if n := reply.GRPCStatus(fieldValue(fields, "grpc-status")); n >= 0 {
		st.grpcStatus = n
	}
}

// fieldValue returns the value of the first field of that name, "" if there is none.
func fieldValue(fields []http2.Field, name string) string {
	for i := range fields {
		if fields[i].Name == name {
			return fields[i].Value
		}
	}
	return ""
}

// finalGRPCStatus is the status that the client of a gRPC call sees, also if the response
// had none.
func (st *base) finalGRPCStatus(e *request.End) int {
	switch {
	case e.Reset:
		return reply.GRPCOfReset(http2.ErrCode(e.ResetCode))
	case e.Reason != mesh.ReasonNone:
		return e.Reason.GRPCCode()
	}
	return reply.FinalGRPCStatus(st.grpcStatus)
}

// fail answers a request with a failure of the proxy's own.
func (st *ending) fail(reason mesh.Reason, b *h2conn.Batch) {
	r := reply.Of(reason)
	st.answer(&r, b)
}

// answer sends a response that the proxy itself makes.
func (st *ending) answer(r *reply.Reply, b *h2conn.Batch) {
	if st.ended {
		return
	}
	st.req.abandon(b)
	st.answered = true
	st.forgetRequest()
	if r.Status == 0 {
		st.cut(r.Reason, http2.InternalError, http2.Cancel, b)
		return
	}
	fields, body := reply.HTTP2(r, st.grpc)
	whole := st.head || body == ""
	_ = st.sendHead(fields, whole, b)
	st.resp.end, st.resp.done = true, whole
	if !whole {
		st.resp.src = nil // the bytes came from no peer: no window is to be returned
		st.resp.data([]byte(body), true, b)
	}
	st.end(request.End{Reason: r.Reason, Status: r.Status, GRPCStatus: r.GRPC})
	// The request may be unfinished, and the rest of it is not needed.
	st.afterwards, st.afterCode = true, http2.NoError
	st.settle(b)
}

// failAfter fails a request; the client may have a part of the response.
func (st *ending) failAfter(reason mesh.Reason, b *h2conn.Batch) {
	if st.up != nil {
		st.up.Reset(st.upID, http2.Cancel, b)
	}
	switch {
	case !st.headed:
		st.fail(reason, b)
	case st.grpc:
		// Trailers tell the client the status. A reset would not.
		st.req.abandon(b)
		r := reply.Of(reason)
		st.resp.finish(reply.GRPCTrailers(&r), b)
		st.end(request.End{Reason: reason})
		st.afterwards, st.afterCode = true, http2.NoError
		st.settle(b)
	default:
		st.cut(reason, http2.InternalError, http2.Cancel, b)
	}
}

// sendHead sends the client a head. A copy has no client: the head is dropped.
func (st *base) sendHead(fields []http2.Field, end bool, b *h2conn.Batch) error {
	if st.mirrored != nil {
		return nil
	}
	return st.client.Headers(st.id, fields, end, b)
}

// resetClient resets the client's stream. A copy has none.
func (st *base) resetClient(code http2.ErrCode, b *h2conn.Batch) {
	if st.mirrored == nil {
		st.client.Reset(st.id, code, b)
	}
}
