package l7proxy

import (
	"strconv"
	"strings"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
)

// requestLine is what tap shows of a request's field section.
func requestLine(fields []http2.Field) RequestLine {
	line := RequestLine{Protocol: "http2"}
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
			line.binds = line.binds || http1.CredentialsBind(f.Value)
		case "content-type":
			if isGRPC(f.Value) {
				line.GRPC, line.Protocol = true, "grpc"
			}
		}
	}
	if line.Authority == "" {
		line.Authority = host
	}
	return line
}

// isGRPC: application/grpc, or with a subtype or parameter; not grpc-web.
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

func (st *h2stream) noteGRPCStatus(fields []http2.Field) {
	if !st.grpc {
		return
	}
	if n := grpcStatusOf(fieldValue(fields, "grpc-status")); n >= 0 {
		st.grpcStatus = n
	}
}

// grpcStatusOf is the number in a field grpc-status, below zero if there is none.
func grpcStatusOf(value string) int {
	if n, err := strconv.Atoi(value); err == nil {
		return n
	}
	return -1
}

// fieldValue is the value of the first field of that name, "" if there is none.
func fieldValue(fields []http2.Field, name string) string {
	for i := range fields {
		if fields[i].Name == name {
			return fields[i].Value
		}
	}
	return ""
}

// finalGRPCStatus is the status that the client of a gRPC call sees, also
// where none was sent.
func (st *h2stream) finalGRPCStatus(e *End) int {
	const cancelled, unknown, exhausted, internal, unavailable = 1, 2, 8, 13, 14
	switch {
	case e.Reset:
		switch http2.ErrCode(e.ResetCode) { // as gRPC over HTTP/2 maps RST_STREAM
		case http2.Cancel:
			return cancelled
		case http2.RefusedStream:
			return unavailable
		case http2.EnhanceYourCalm:
			return exhausted
		}
		return internal
	case e.Reason != mesh.ReasonNone:
		return e.Reason.GRPCCode()
	case st.grpcStatus < 0:
		return unknown
	}
	return st.grpcStatus
}

// fail answers a request that the server did not.
func (st *h2stream) fail(reason mesh.Reason, b *h2batch) {
	reply := http1.ReplyOf(reason)
	st.answer(&reply, b)
}

// answer gives the whole response that the proxy itself makes.
func (st *h2stream) answer(r *http1.Reply, b *h2batch) {
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
	fields, body := st.replyHead(r)
	whole := st.head || body == ""
	_ = st.srv.headers(st.id, fields, whole, b)
	st.resp.end, st.resp.done = true, whole
	if !whole {
		st.resp.src = nil // these bytes are nobody's window
		st.resp.data([]byte(body), true, b)
	}
	st.end(End{Reason: r.Reason, Status: r.Status, GRPCStatus: r.GRPC})
	// The request may be unfinished; nobody wants the rest of it.
	st.afterwards, st.afterCode = true, http2.NoError
	st.settle(b)
}

// replyHead is the head of a response of the proxy's own, and its body.
func (st *h2stream) replyHead(r *http1.Reply) (fields []http2.Field, body string) {
	if st.grpc && r.Reason != mesh.ReasonNone {
		return grpcReply(r), ""
	}
	fields = []http2.Field{{Name: ":status", Value: strconv.Itoa(r.Status)}}
	if r.Location != "" {
		fields = append(fields, http2.Field{Name: "location", Value: r.Location})
	}
	if r.Reason != mesh.ReasonNone {
		body = r.Reason.Text() + "\n"
		fields = append(fields, http2.Field{Name: http1.ReasonHeader, Value: r.Reason.String()})
	}
	if r.Status == 204 || r.Status == 304 { // a fault's: no body can follow
		return fields, ""
	}
	if body != "" {
		fields = append(fields, http2.Field{Name: "content-type", Value: "text/plain; charset=utf-8"})
	}
	return append(fields, http2.Field{Name: "content-length", Value: strconv.Itoa(len(body))}), body
}

// failAfter fails a request of which a part of the answer may have gone out.
func (st *h2stream) failAfter(reason mesh.Reason, b *h2batch) {
	if st.up != nil {
		st.up.reset(st.upID, http2.Cancel, b)
	}
	switch {
	case !st.headed:
		st.fail(reason, b)
	case st.grpc:
		// The call's own way to fail, rather than a reset that says nothing.
		st.req.abandon(b)
		reply := http1.ReplyOf(reason)
		st.resp.finish(grpcFailure(&reply), b)
		st.end(End{Reason: reason})
		st.afterwards, st.afterCode = true, http2.NoError
		st.settle(b)
	default:
		st.cut(reason, http2.InternalError, http2.Cancel, b)
	}
}

// grpcReply is a whole response: Trailers-Only of gRPC's PROTOCOL-HTTP2.
func grpcReply(r *http1.Reply) []http2.Field {
	return append([]http2.Field{
		{Name: ":status", Value: "200"},
		{Name: "content-type", Value: "application/grpc"},
	}, grpcFailure(r)...)
}

func grpcFailure(r *http1.Reply) []http2.Field {
	return []http2.Field{
		{Name: "grpc-status", Value: strconv.Itoa(r.GRPC)},
		{Name: "grpc-message", Value: percentEncode(r.Reason.Text())},
		{Name: http1.ReasonHeader, Value: r.Reason.String()},
	}
}

// percentEncode encodes a grpc-message: printable ASCII but '%' stands for
// itself.
func percentEncode(s string) string {
	const digits = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			out.Write([]byte{'%', digits[c>>4], digits[c&15]})
		} else {
			out.WriteByte(c)
		}
	}
	return out.String()
}
