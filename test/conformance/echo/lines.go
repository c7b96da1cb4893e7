// Package echo replaces Istio's echo image in the suite's pods. It has a server
// that answers with the request, and a client that the suite runs in a pod. The
// suite's package utils/echo parses the client's output. Both print lines of
// "Key=value".
package echo

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	pb "sigs.k8s.io/gateway-api/conformance/echo-basic/grpcechoserver"
)

// Request is a request as the server saw it, for its response.
type Request struct {
	Hostname string // of the pod that responds
	Port     string // of the server
	Method   string
	URL      string // path and query
	Host     string
	Proto    string
	IP       string // the client's
	Header   http.Header
}

// Lines returns the body of the response.
func (r Request) Lines() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ServicePort=%s\nHost=%s\nURL=%s\nMethod=%s\nProto=%s\nIP=%s\n", r.Port, r.Host, r.URL, r.Method, r.Proto, r.IP)
	b.WriteString(headerLines("RequestHeader", r.Header))
	fmt.Fprintf(&b, "Hostname=%s\n", r.Hostname)
	return b.String()
}

// Response is a response as the client saw it.
type Response struct {
	URL    string // of the request
	Code   int    // HTTP status, or the gRPC code if that is not OK
	Header http.Header
	Body   string
}

// Lines returns what the client prints about request number n. The suite separates
// the responses to several requests by the empty line at the end.
func (r Response) Lines(n int) string {
	var b strings.Builder
	text := fmt.Sprintf("Url=%s\nStatusCode=%d\n", r.URL, r.Code) + headerLines("ResponseHeader", r.Header)
	for line := range strings.Lines(text) {
		fmt.Fprintf(&b, "[%d] %s", n, line)
	}
	for line := range strings.Lines(r.Body) {
		fmt.Fprintf(&b, "[%d body] %s\n", n, strings.TrimRight(line, "\r\n"))
	}
	b.WriteString("\n")
	return b.String()
}

// fromGRPC converts the response of a gRPC server.
func fromGRPC(a *pb.Assertions) Request {
	r := Request{
		Hostname: a.GetContext().GetPod(), Host: a.GetAuthority(), Proto: "GRPC",
		Method: a.GetFullyQualifiedMethod(), URL: a.GetFullyQualifiedMethod(), Header: http.Header{},
	}
	for _, h := range a.GetHeaders() {
		r.Header.Add(h.GetKey(), h.GetValue())
	}
	return r
}

// headerLines returns one line for each value, sorted by name.
func headerLines(key string, header http.Header) string {
	var lines []string
	for name, values := range header {
		for _, v := range values {
			lines = append(lines, fmt.Sprintf("%s=%s:%s\n", key, name, v))
		}
	}
	slices.SortStableFunc(lines, func(a, b string) int {
		a, _, _ = strings.Cut(a, ":")
		b, _, _ = strings.Cut(b, ":")
		return strings.Compare(a, b)
	})
	return strings.Join(lines, "")
}
