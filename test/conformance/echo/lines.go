// Package echo is what the suite's pods run instead of Istio's echo image: a
// server that answers with what it was asked, and a client that the suite runs
// in a pod, whose output its package utils/echo reads. Both print lines of
// "Key=value".
package echo

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	pb "sigs.k8s.io/gateway-api/conformance/echo-basic/grpcechoserver"
)

// Request is what a server saw of a request, for its answer.
type Request struct {
	Hostname string // of the pod that answers
	Port     string // of the server
	Method   string
	URL      string // path and query
	Host     string
	Proto    string
	IP       string // the client's
	Header   http.Header
}

// Lines is the answer's body.
func (r Request) Lines() string {
	var b strings.Builder
	fmt.Fprintf(&b, "ServicePort=%s\nHost=%s\nURL=%s\nMethod=%s\nProto=%s\nIP=%s\n", r.Port, r.Host, r.URL, r.Method, r.Proto, r.IP)
	b.WriteString(headerLines("RequestHeader", r.Header))
	fmt.Fprintf(&b, "Hostname=%s\n", r.Hostname)
	return b.String()
}

// Response is what a client had for an answer.
type Response struct {
	URL    string // that was asked for
	Code   int    // HTTP's status; gRPC's where that is not OK
	Header http.Header
	Body   string
}

// Lines is what the client prints of its request number n. The suite tells the
// answers to many requests apart by the empty line at the end.
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

// fromGRPC is the answer of a gRPC server in the same lines.
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

// headerLines is one line for each value, sorted by name.
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
