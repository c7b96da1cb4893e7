package extauth

import (
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/mesh"
)

var errConnect = errors.New("a request with the method CONNECT cannot be put to an authorizer of HTTP")

// appendHTTP appends the question of HTTP/1 as far as Content-Length: the request's method,
// its path after the prefix, Host, Authorization, and the fields that the authorizer is to
// see.
func appendHTTP(dst []byte, a *mesh.ExternalAuth, r *Request) ([]byte, error) {
	method := r.Method
	switch {
	case r.Extended:
		method = "GET" // that of the upgrade in HTTP/1
	case method == "CONNECT":
		return dst, errConnect
	}
	dst = http1.AppendTarget(dst, method)
	dst = append(dst, ' ')
	dst = http1.AppendTarget(dst, a.PathPrefix)
	if !strings.HasPrefix(r.Path, "/") {
		dst = append(dst, '/')
	}
	dst = http1.AppendTarget(dst, r.Path)
	dst = append(dst, " HTTP/1.1\r\nhost: "...)
	dst = http1.AppendTarget(dst, r.Host)
	dst = append(dst, "\r\n"...)
	for name, value := range r.Fields {
		name = strings.ToLower(name)
		if !bound(name) && (name == "authorization" || a.RequestHeaders.Has(name)) && !adds(a.AddHeaders, name) {
			dst = http1.AppendField(dst, name, value)
		}
	}
	for _, f := range a.AddHeaders {
		dst = http1.AppendField(dst, f.Name, f.Value)
	}
	return dst, nil
}

func adds(fields []mesh.HeaderField, name string) bool {
	for i := range fields {
		if strings.EqualFold(fields[i].Name, name) {
			return true
		}
	}
	return false
}

// aboutAnswer reports whether a field is about the answer itself. Where all fields are copied
// to the request, it is not.
func aboutAnswer(name string) bool {
	return name == "content-type" || name == "content-encoding" || name == "date" || name == "server"
}

// HTTPAnswer reads the answer of HTTP/1. Status 200 allows the request, as in the Gateway API
// (GEP-1494) and Envoy. Any other is the response for the client. The strings are copied.
func HTTPAnswer(a *mesh.ExternalAuth, status int, fields iter.Seq2[[]byte, []byte], body []byte) (Answer, error) {
	out := Answer{Allowed: status == 200}
	for n, v := range fields {
		name := strings.ToLower(string(n))
		if bound(name) {
			continue
		}
		value := string(v)
		switch {
		case !out.Allowed:
			if a.DenyHeaders.Has(name) {
				out.Fields = append(out.Fields, mesh.HeaderField{Name: name, Value: value})
			}
			continue
		case a.UpstreamHeaders.Has(name) && !(aboutAnswer(name) && slices.Contains(a.UpstreamHeaders, "*")):
			out.set(name, value)
		}
		if a.AllowHeaders.Has(name) {
			out.Response = append(out.Response, mesh.HeaderField{Name: name, Value: value})
		}
	}
	if out.Allowed {
		return out, out.count()
	}
	out.Status = status
	if status < 300 || status > 599 { // the client would take it for a success
		out.Status = denied
	}
	out.Body = append([]byte(nil), body...)
	return out, out.count()
}
