package reply

import (
	"strconv"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
)

// HTTP2 returns the head and the body of a response of the proxy itself over HTTP/2. The
// response to a failed gRPC request has the code in grpc-status and no body.
func HTTP2(r *Reply, grpc bool) (fields []http2.Field, body string) {
	if grpc && r.Reason != mesh.ReasonNone {
		return GRPC(r), ""
	}
	fields = []http2.Field{{Name: ":status", Value: strconv.Itoa(r.Status)}}
	if r.Location != "" {
		fields = append(fields, http2.Field{Name: "location", Value: r.Location})
	}
	if r.Reason != mesh.ReasonNone {
		body = r.text() + "\n"
		fields = append(fields, http2.Field{Name: ReasonHeader, Value: r.reason()})
	}
	if r.Own != nil {
		for _, f := range r.Own.Fields {
			fields = append(fields, http2.Field{Name: f.Name, Value: f.Value})
		}
		if r.Status == 204 || r.Status == 304 {
			return fields, ""
		}
		return append(fields, http2.Field{Name: "content-length", Value: strconv.Itoa(len(r.Own.Body))}), string(r.Own.Body)
	}
	if c := r.challenge(); c != "" {
		fields = append(fields, http2.Field{Name: "www-authenticate", Value: c})
	}
	if r.Status == 204 || r.Status == 304 { // the status of a route's fault, which has no body
		return fields, ""
	}
	if body != "" {
		fields = append(fields, http2.Field{Name: "content-type", Value: "text/plain; charset=utf-8"})
	}
	return append(fields, http2.Field{Name: "content-length", Value: strconv.Itoa(len(body))}), body
}

// GRPC returns a complete response: the Trailers-Only form of gRPC's PROTOCOL-HTTP2.
func GRPC(r *Reply) []http2.Field {
	fields := []http2.Field{
		{Name: ":status", Value: "200"},
		{Name: "content-type", Value: "application/grpc"},
	}
	if r.Own != nil {
		for _, f := range r.Own.Fields {
			if f.Name != "content-type" {
				fields = append(fields, http2.Field{Name: f.Name, Value: f.Value})
			}
		}
	}
	return append(fields, GRPCTrailers(r)...)
}

// GRPCTrailers returns trailers that end a response of which a part was sent.
func GRPCTrailers(r *Reply) []http2.Field {
	return []http2.Field{
		{Name: "grpc-status", Value: strconv.Itoa(r.GRPC)},
		{Name: "grpc-message", Value: string(appendPercent(nil, r.text()))},
		{Name: ReasonHeader, Value: r.reason()},
	}
}
