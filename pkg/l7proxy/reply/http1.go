package reply

import (
	"strconv"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/mesh"
)

// AppendHTTP1 appends a complete response from the proxy itself, or nothing if it has
// no status. asked is the request's Kind, 0 if the request could not be read. With
// closing set, the response says that the connection closes after it.
//
// The response to a failed gRPC request has status 200, the code in grpc-status and no
// body.
func AppendHTTP1(dst []byte, r *Reply, asked http1.Kind, closing bool) []byte {
	if r.Status == 0 {
		return dst
	}
	status, grpc := r.Status, asked&http1.KindGRPC != 0 && r.Reason != mesh.ReasonNone
	if grpc {
		status = 200
	}
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, phrase(status)...)
	dst = append(dst, "\r\n"...)
	text := ""
	if r.Reason != mesh.ReasonNone {
		text = r.text()
		dst = append(dst, ReasonHeader+": "...)
		dst = append(dst, r.reason()...)
		dst = append(dst, "\r\n"...)
	}
	if c := r.challenge(); c != "" {
		dst = append(dst, "www-authenticate: "...)
		dst = append(dst, c...)
		dst = append(dst, "\r\n"...)
	}
	if r.Location != "" {
		dst = append(dst, "location: "...)
		dst = http1.AppendTarget(dst, r.Location)
		dst = append(dst, "\r\n"...)
	}
	if r.Own != nil {
		for _, f := range r.Own.Fields {
			if !grpc || f.Name != "content-type" {
				dst = http1.AppendField(dst, f.Name, f.Value)
			}
		}
	}
	switch {
	case closing:
		dst = append(dst, "connection: close\r\n"...)
	case asked&http1.KindHTTP10 != 0:
		dst = append(dst, "connection: keep-alive\r\n"...)
	}
	switch {
	case grpc:
		dst = append(dst, "content-type: application/grpc\r\ncontent-length: 0\r\ngrpc-status: "...)
		dst = strconv.AppendInt(dst, int64(r.GRPC), 10)
		dst = append(dst, "\r\ngrpc-message: "...)
		dst = appendPercent(dst, text)
		return append(dst, "\r\n\r\n"...)
	case r.Own != nil:
		return appendOwn(dst, r.Own, status, asked)
	case text == "":
		return append(dst, "content-length: 0\r\n\r\n"...)
	case status < 200 || status == 204 || status == 304: // the status of an injected fault, which has no body
		return append(dst, "\r\n"...)
	}
	dst = append(dst, "content-type: text/plain; charset=utf-8\r\ncontent-length: "...)
	dst = strconv.AppendInt(dst, int64(len(text)+len("\n")), 10)
	dst = append(dst, "\r\n\r\n"...)
	if asked&http1.KindHEAD != 0 {
		return dst
	}
	dst = append(dst, text...)
	return append(dst, '\n')
}

// appendOwn appends the rest of a response of an authorizer.
func appendOwn(dst []byte, own *Own, status int, asked http1.Kind) []byte {
	if status == 204 || status == 304 {
		return append(dst, "\r\n"...)
	}
	dst = append(dst, "content-length: "...)
	dst = strconv.AppendInt(dst, int64(len(own.Body)), 10)
	dst = append(dst, "\r\n\r\n"...)
	if asked&http1.KindHEAD != 0 {
		return dst
	}
	return append(dst, own.Body...)
}

// phrase returns the reason phrase for the statuses in mesh's table and for redirects. An
// empty phrase is valid (RFC 9112 §4).
func phrase(status int) string {
	switch status {
	case 200:
		return "OK"
	case 400:
		return "Bad Request"
	case 301:
		return "Moved Permanently"
	case 302:
		return "Found"
	case 303:
		return "See Other"
	case 307:
		return "Temporary Redirect"
	case 308:
		return "Permanent Redirect"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 408:
		return "Request Timeout"
	case 429:
		return "Too Many Requests"
	case 431:
		return "Request Header Fields Too Large"
	case 500:
		return "Internal Server Error"
	case 501:
		return "Not Implemented"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Gateway Timeout"
	}
	return ""
}
