package otlp

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tracing"
)

// encodeSpans makes the spans of requests that have ended: one of each side of the proxy
// that the agent sees. That is the client's outbound and the server's inbound, and both
// where the request did not leave the node.
func encodeSpans(events []tap.Event, version string) *tracepb.TracesData {
	var out tracepb.TracesData
	scopes := map[*mesh.Workload]*tracepb.ScopeSpans{}
	add := func(w *mesh.Workload, s *tracepb.Span) {
		spans := scopes[w]
		if spans == nil {
			spans = &tracepb.ScopeSpans{Scope: scope(version), SchemaUrl: schema}
			scopes[w] = spans
			out.ResourceSpans = append(out.ResourceSpans, &tracepb.ResourceSpans{
				Resource: resourceOf(w), ScopeSpans: []*tracepb.ScopeSpans{spans}, SchemaUrl: schema,
			})
		}
		spans.Spans = append(spans.Spans, s)
	}
	for i := range events {
		e := &events[i]
		t, remote := e.Trace, e.Trace.Parent != (tracing.SpanID{})
		switch {
		case e.Direction == mesh.Inbound:
			add(e.Destination.Workload, makeSpan(e, server, t.Span, t.Parent, remote))
		case e.TLS == tap.TLSSameNode && !e.Reason.NotReached():
			add(e.Source.Workload, makeSpan(e, client, t.Client, t.Parent, remote))
			add(e.Destination.Workload, makeSpan(e, server, t.Span, t.Client, false))
		default:
			add(e.Source.Workload, makeSpan(e, client, t.Span, t.Parent, remote))
		}
	}
	return &out
}

const (
	client = tracepb.Span_SPAN_KIND_CLIENT
	server = tracepb.Span_SPAN_KIND_SERVER
)

func makeSpan(e *tap.Event, kind tracepb.Span_SpanKind, id, parent tracing.SpanID, remote bool) *tracepb.Span {
	s := &tracepb.Span{
		TraceId: slices.Clone(e.Trace.ID[:]), SpanId: slices.Clone(id[:]), TraceState: e.Trace.State, Kind: kind,
		Flags: uint32(e.Trace.Flags) | uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK),
	}
	if parent != (tracing.SpanID{}) {
		s.ParentSpanId = slices.Clone(parent[:])
	}
	if remote {
		s.Flags |= uint32(tracepb.SpanFlags_SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)
	}
	began := e.Time.Add(-e.Duration)
	if kind == server && e.Direction == mesh.Outbound {
		// The server's side begins when the request is sent to it.
		began = began.Add(e.Split.Queue + e.Split.Connect + e.Split.TLS)
	}
	s.StartTimeUnixNano, s.EndTimeUnixNano = nanos(began), nanos(e.Time)
	var a attributes
	failure := ""
	if e.GRPC {
		s.Name, failure = describeCall(e, kind, &a)
	} else {
		s.Name, failure = describeRequest(e, kind, &a)
	}
	if e.Reason != mesh.ReasonNone {
		failure = e.Reason.String()
	}
	if failure != "" {
		a.str("error.type", failure)
		s.Status = &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR}
	}
	common(e, kind, &a)
	s.Attributes = a
	if kind == client {
		attemptEvents(s, e, began)
	}
	return s
}

// resends returns how often the request was sent again, for whatever cause.
func resends(e *tap.Event) int {
	if n := len(e.Trace.Attempts); n > 0 {
		return e.Trace.Attempts[n-1].Number
	}
	return e.Retries
}

// attemptEvents adds an event for each attempt of a request that was sent more than once.
// They are events and no spans, because the server's span has the span of the whole request
// as its parent: the headers name one, whichever attempt succeeds.
func attemptEvents(s *tracepb.Span, e *tap.Event, began time.Time) {
	for i := range e.Trace.Attempts {
		t := &e.Trace.Attempts[i]
		var a attributes
		a.num("http.request.resend_count", int64(t.Number))
		if t.Endpoint.IsValid() {
			a.str("network.peer.address", t.Endpoint.Addr().Unmap().String())
			a.num("network.peer.port", int64(t.Endpoint.Port()))
		}
		failure := ""
		if t.Status != 0 {
			a.num("http.response.status_code", int64(t.Status))
			if t.Status >= 400 {
				failure = strconv.Itoa(t.Status)
			}
		}
		if t.GRPCStatus >= 0 {
			code := codeName(t.GRPCStatus)
			a.str("rpc.response.status_code", code)
			if t.GRPCStatus > 0 {
				failure = code
			}
		}
		if t.Reason != mesh.ReasonNone {
			failure = t.Reason.String()
			a.str("underlane.reason", failure)
		}
		a.str("error.type", failure)
		a.float("underlane.attempt.time", (t.Ended - t.Began).Seconds())
		s.Events = append(s.Events, &tracepb.Span_Event{Name: "underlane.attempt", TimeUnixNano: nanos(began.Add(t.Ended)), Attributes: a})
	}
	if n := len(e.Trace.Attempts); n > 0 {
		s.DroppedEventsCount = uint32(e.Trace.Attempts[n-1].Number + 1 - n)
	}
}

func nanos(t time.Time) uint64 { return uint64(max(0, t.UnixNano())) }

// describeRequest adds the attributes of the conventions for HTTP (semantic-conventions,
// docs/http/http-spans.md). It returns the span's name, and what has failed; "" if nothing.
func describeRequest(e *tap.Event, kind tracepb.Span_SpanKind, a *attributes) (name, failure string) {
	name = e.Method
	switch e.Method {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY":
		a.str("http.request.method", e.Method)
	default: // the number of names must be bounded
		name = "HTTP"
		a.str("http.request.method", "_OTHER")
		a.str("http.request.method_original", e.Method)
	}
	path, query := splitPath(e.Path)
	if kind == client {
		if strings.HasPrefix(path, "/") {
			full := cmp.Or(e.Scheme, "http") + "://" + withoutUser(e.Authority) + path
			if query != "" {
				full += "?" + query
			}
			a.str("url.full", full)
		}
		if n := resends(e); n > 0 {
			a.num("http.request.resend_count", int64(n))
		}
	} else {
		a.str("url.scheme", cmp.Or(e.Scheme, "http"))
		a.str("url.path", path)
		a.str("url.query", query)
		if e.Head != nil {
			a.str("user_agent.original", e.Head.UserAgent)
		}
	}
	a.num("http.request.body.size", int64(e.ReadBytes))
	a.num("http.response.body.size", int64(e.WriteBytes))
	if e.Status != 0 {
		a.num("http.response.status_code", int64(e.Status))
	}
	if e.Status >= 500 || kind == client && e.Status >= 400 {
		failure = strconv.Itoa(e.Status)
	}
	return name, failure
}

// describeCall adds the attributes of the conventions for gRPC (docs/rpc/grpc.md). It
// returns as describeRequest does.
func describeCall(e *tap.Event, kind tracepb.Span_SpanKind, a *attributes) (name, failure string) {
	a.str("rpc.system.name", "grpc")
	method, _ := splitPath(e.Path)
	method = strings.TrimPrefix(method, "/")
	if service, rpc, ok := strings.Cut(method, "/"); !ok || service == "" || rpc == "" || strings.Contains(rpc, "/") {
		a.str("rpc.method_original", method)
		method = "_OTHER"
	}
	a.str("rpc.method", method)
	code := codeName(e.GRPCStatus)
	a.str("rpc.response.status_code", code)
	switch {
	case e.GRPCStatus == 0:
	case kind == client:
		failure = code
	default: // those that are the server's fault
		switch e.GRPCStatus {
		case 2, 4, 12, 13, 14, 15:
			failure = code
		}
	}
	return clean(method), failure
}

// common adds what both protocols have, and what only the mesh knows.
func common(e *tap.Event, kind tracepb.Span_SpanKind, a *attributes) {
	host, port, err := net.SplitHostPort(withoutUser(e.Authority))
	if err != nil {
		host, port = withoutUser(e.Authority), ""
	}
	peer := e.Source
	if kind == client {
		peer = e.Destination
		if host == "" {
			host, port = peer.Addr.Addr().String(), strconv.Itoa(int(peer.Addr.Port()))
		}
	} else if peer.Addr.IsValid() {
		a.str("client.address", peer.Addr.Addr().Unmap().String())
	}
	a.str("server.address", host)
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		a.num("server.port", int64(n))
	}
	a.str("network.protocol.name", "http")
	if e.Protocol == "http1" {
		version := "1.1"
		if e.Head != nil {
			version = e.Head.Version
		}
		a.str("network.protocol.version", version)
	} else {
		a.str("network.protocol.version", "2")
	}
	if peer.Addr.IsValid() {
		a.str("network.peer.address", peer.Addr.Addr().Unmap().String())
		a.num("network.peer.port", int64(peer.Addr.Port()))
	}
	if w := peer.Workload; w != nil {
		a.str("service.peer.name", cmp.Or(w.OwnerName, w.Name))
		a.str("service.peer.namespace", w.Namespace)
	}
	a.str("underlane.direction", e.Direction.String())
	a.str("underlane.tls", e.TLS)
	if e.Reason != mesh.ReasonNone {
		a.str("underlane.reason", e.Reason.String())
	}
	if e.Service != nil {
		a.str("underlane.service", e.Service.Namespace+"/"+e.Service.Name)
	}
	if e.Route != nil {
		a.str("underlane.route", e.Route.Kind+"/"+e.Route.Namespace+"/"+e.Route.Name)
		a.str("underlane.rule", e.Rule)
	}
	a.num("underlane.retries", int64(e.Retries))
	for _, part := range []struct {
		name string
		time time.Duration
	}{
		{"queue", e.Split.Queue},
		{"connect", e.Split.Connect},
		{"tls", e.Split.TLS},
		{"first_byte", e.Split.FirstByte},
		{"body", e.Split.Body},
	} {
		a.float("underlane.time."+part.name, part.time.Seconds())
	}
}

// withoutUser removes the user information of an authority: it may be a password.
func withoutUser(authority string) string {
	return authority[strings.LastIndexByte(authority, '@')+1:]
}

// secrets are the parameters of a query whose values the conventions want redacted
// (attribute url.query).
var secrets = []string{"AWSAccessKeyId", "Signature", "sig", "X-Goog-Signature"}

// splitPath cuts a request's target at the query, and redacts that.
func splitPath(target string) (path, query string) {
	path, query, _ = strings.Cut(target, "?")
	for _, name := range secrets {
		if strings.Contains(query, name+"=") {
			return path, redact(query)
		}
	}
	return path, query
}

func redact(query string) string {
	parts := strings.Split(query, "&")
	for i, part := range parts {
		if name, _, ok := strings.Cut(part, "="); ok && slices.Contains(secrets, name) {
			parts[i] = name + "=REDACTED"
		}
	}
	return strings.Join(parts, "&")
}

var codeNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
	"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// codeName returns the name of a gRPC status, or its number if it has none.
func codeName(code int) string {
	if code >= 0 && code < len(codeNames) {
		return codeNames[code]
	}
	return strconv.Itoa(code)
}
