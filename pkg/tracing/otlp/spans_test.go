package otlp

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tracing"
)

// span is a span in few words.
type span struct {
	Service, Kind, Name, ID, Parent string
	Start, End                      time.Duration // from the time of the event's begin
	Error                           bool
	Flags                           uint32
	Attributes                      map[string]any
}

var begin = time.Unix(1_700_000_000, 0)

func spansOf(events ...tap.Event) (out []span) {
	for _, r := range encodeSpans(events, "v1").GetResourceSpans() {
		resource := valuesOf(r.GetResource().GetAttributes())
		for _, s := range r.GetScopeSpans()[0].GetSpans() {
			out = append(out, span{
				Service: fmt.Sprint(resource["service.namespace"], "/", resource["service.name"]),
				Kind:    s.GetKind().String(), Name: s.GetName(),
				ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
				Start: time.Unix(0, int64(s.GetStartTimeUnixNano())).Sub(begin), End: time.Unix(0, int64(s.GetEndTimeUnixNano())).Sub(begin),
				Error: s.GetStatus().GetCode() == 2, Flags: s.GetFlags(), Attributes: valuesOf(s.GetAttributes()),
			})
		}
	}
	return out
}

func valuesOf(pairs []*commonpb.KeyValue) map[string]any {
	out := map[string]any{}
	for _, kv := range pairs {
		switch v := kv.GetValue().GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			out[kv.GetKey()] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			out[kv.GetKey()] = v.IntValue
		case *commonpb.AnyValue_DoubleValue:
			out[kv.GetKey()] = v.DoubleValue
		}
	}
	return out
}

func request() tap.Event {
	return tap.Event{
		Kind: tap.ResponseEnd, Direction: mesh.Outbound, TLS: tap.TLSTrue, Time: begin.Add(time.Second), Duration: time.Second,
		Protocol: "http1", Method: "GET", Scheme: "http", Authority: "voting:8080", Path: "/vote?a=b&sig=xyz", Status: 200,
		Source:      tap.Peer{Addr: netip.MustParseAddrPort("10.0.0.1:4242"), Workload: &mesh.Workload{UID: "u1", Name: "web-1", Namespace: "shop", OwnerKind: "deployment", OwnerName: "web", Node: "n1"}},
		Destination: tap.Peer{Addr: netip.MustParseAddrPort("10.0.0.2:8080"), Workload: &mesh.Workload{UID: "u2", Name: "voting-1", Namespace: "shop", OwnerKind: "deployment", OwnerName: "voting", Node: "n2"}},
		ReadBytes:   3, WriteBytes: 4, Retries: 1,
		Service: &mesh.Service{Namespace: "shop", Name: "voting"},
		Route:   &mesh.Route{Kind: "HTTPRoute", Namespace: "shop", Name: "r"}, Rule: "first",
		Split: tap.Split{Queue: 100 * time.Millisecond, Connect: 200 * time.Millisecond, FirstByte: 600 * time.Millisecond, Body: 100 * time.Millisecond},
		Trace: &tracing.Trace{ID: tracing.ID{1}, Span: tracing.SpanID{2}, Client: tracing.SpanID{3}, Parent: tracing.SpanID{4}, Flags: 1},
	}
}

// withMesh adds the attributes that all spans of request have.
func withMesh(a map[string]any) map[string]any {
	for k, v := range map[string]any{
		"network.protocol.name": "http", "network.protocol.version": "1.1",
		"server.address": "voting", "server.port": int64(8080), "underlane.direction": "outbound", "underlane.tls": "true",
		"underlane.service": "shop/voting", "underlane.route": "HTTPRoute/shop/r", "underlane.rule": "first", "underlane.retries": int64(1),
		"underlane.time.queue": 0.1, "underlane.time.connect": 0.2, "underlane.time.tls": 0.0, "underlane.time.first_byte": 0.6, "underlane.time.body": 0.1,
	} {
		if _, ok := a[k]; !ok {
			a[k] = v
		}
	}
	return a
}

const idOf2, idOf3, idOf4 = "0200000000000000", "0300000000000000", "0400000000000000"

func TestSpans(t *testing.T) {
	asClient := withMesh(map[string]any{
		"http.request.method": "GET", "url.full": "http://voting:8080/vote?a=b&sig=REDACTED", "http.response.status_code": int64(200),
		"http.request.body.size": int64(3), "http.response.body.size": int64(4), "http.request.resend_count": int64(1),
		"network.peer.address": "10.0.0.2", "network.peer.port": int64(8080), "service.peer.name": "voting", "service.peer.namespace": "shop",
	})
	asServer := withMesh(map[string]any{
		"http.request.method": "GET", "url.scheme": "http", "url.path": "/vote", "url.query": "a=b&sig=REDACTED", "http.response.status_code": int64(200),
		"http.request.body.size": int64(3), "http.response.body.size": int64(4), "client.address": "10.0.0.1",
		"network.peer.address": "10.0.0.1", "network.peer.port": int64(4242), "service.peer.name": "web", "service.peer.namespace": "shop",
		"underlane.direction": "inbound",
	})
	e := request()
	want := []span{{"shop/web", "SPAN_KIND_CLIENT", "GET", idOf2, idOf4, 0, time.Second, false, 0x301, asClient}}
	if diff := cmp.Diff(want, spansOf(e)); diff != "" {
		t.Errorf("outbound (-want +got):\n%s", diff)
	}

	e.Direction = mesh.Inbound
	want = []span{{"shop/voting", "SPAN_KIND_SERVER", "GET", idOf2, idOf4, 0, time.Second, false, 0x301, asServer}}
	if diff := cmp.Diff(want, spansOf(e)); diff != "" {
		t.Errorf("inbound (-want +got):\n%s", diff)
	}

	// One pass of the proxy is both sides. What the server got as its parent is the server's
	// span, whose parent is the client's.
	e.Direction, e.TLS = mesh.Outbound, tap.TLSSameNode
	got := spansOf(e)
	for i := range got {
		got[i].Attributes = nil
	}
	want = []span{
		{"shop/web", "SPAN_KIND_CLIENT", "GET", idOf3, idOf4, 0, time.Second, false, 0x301, nil},
		{"shop/voting", "SPAN_KIND_SERVER", "GET", idOf2, idOf3, 300 * time.Millisecond, time.Second, false, 0x101, nil},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("same node (-want +got):\n%s", diff)
	}
	e.Reason = mesh.ReasonConnectRefused
	if got := spansOf(e); len(got) != 1 || got[0].ID != idOf2 || got[0].Attributes["error.type"] != "connect-refused" || got[0].Attributes["underlane.reason"] != "connect-refused" {
		t.Errorf("same node, the server refuses the connection: %+v, want the client's span alone, with the reason", got)
	}
}

// TestOutcomes says what counts as an error, for each side.
func TestOutcomes(t *testing.T) {
	for name, tc := range map[string]struct {
		change         func(*tap.Event)
		name           string
		client, server any // error.type
	}{
		"redirect":       {func(e *tap.Event) { e.Status = 302 }, "GET", nil, nil},
		"not found":      {func(e *tap.Event) { e.Status = 404 }, "GET", "404", nil},
		"unavailable":    {func(e *tap.Event) { e.Status = 503 }, "GET", "503", "503"},
		"the mesh's own": {func(e *tap.Event) { e.Status, e.Reason = 403, mesh.ReasonPolicyDenied }, "GET", "policy-denied", "policy-denied"},
		"odd method":     {func(e *tap.Event) { e.Method = "x-1" }, "HTTP", nil, nil},
		"call":           {func(e *tap.Event) { e.GRPC, e.Path = true, "/a.B/C" }, "a.B/C", nil, nil},
		"not found call": {func(e *tap.Event) { e.GRPC, e.Path, e.GRPCStatus = true, "/a.B/C", 5 }, "a.B/C", "NOT_FOUND", nil},
		"failed call":    {func(e *tap.Event) { e.GRPC, e.Path, e.GRPCStatus = true, "/a.B/C", 14 }, "a.B/C", "UNAVAILABLE", "UNAVAILABLE"},
		"unknown code":   {func(e *tap.Event) { e.GRPC, e.Path, e.GRPCStatus = true, "/a.B/C", 99 }, "a.B/C", "99", nil},
		"odd call":       {func(e *tap.Event) { e.GRPC, e.Path = true, "/a/b/c" }, "_OTHER", nil, nil},
	} {
		for direction, want := range map[mesh.Direction]any{mesh.Outbound: tc.client, mesh.Inbound: tc.server} {
			e := request()
			e.Direction = direction
			tc.change(&e)
			s := spansOf(e)[0]
			if s.Name != tc.name || s.Attributes["error.type"] != want || s.Error != (want != nil) {
				t.Errorf("%s, %v: name %q, error.type %v, error %v; want %q, %v", name, direction, s.Name, s.Attributes["error.type"], s.Error, tc.name, want)
			}
			if tc.change(&e); e.GRPC && (s.Attributes["rpc.system.name"] != "grpc" || s.Attributes["http.request.method"] != nil) {
				t.Errorf("%s, %v: attributes %v, want those of a call", name, direction, s.Attributes)
			}
		}
	}
}

// TestAttempts: the client's span has an event for each attempt of a request that was sent
// more than once.
func TestAttempts(t *testing.T) {
	e := request()
	first, second := netip.MustParseAddrPort("10.0.0.8:8080"), netip.MustParseAddrPort("10.0.0.9:8080")
	e.Trace.Attempted(tracing.Attempt{Endpoint: first, Ended: 100 * time.Millisecond, GRPCStatus: -1, Reason: mesh.ReasonConnectRefused})
	e.Trace.Attempted(tracing.Attempt{Endpoint: second, Began: 150 * time.Millisecond, Ended: 400 * time.Millisecond, Status: 503, GRPCStatus: -1})
	e.Trace.Attempted(tracing.Attempt{Endpoint: first, Began: 500 * time.Millisecond, Ended: time.Second, Status: 200, GRPCStatus: 0})
	span := encodeSpans([]tap.Event{e}, "v1").GetResourceSpans()[0].GetScopeSpans()[0].GetSpans()[0]
	type event struct {
		Name       string
		At         time.Duration
		Attributes map[string]any
	}
	var got []event
	for _, ev := range span.GetEvents() {
		got = append(got, event{ev.GetName(), time.Unix(0, int64(ev.GetTimeUnixNano())).Sub(begin), valuesOf(ev.GetAttributes())})
	}
	want := []event{
		{"underlane.attempt", 100 * time.Millisecond, map[string]any{
			"http.request.resend_count": int64(0), "network.peer.address": "10.0.0.8", "network.peer.port": int64(8080),
			"underlane.reason": "connect-refused", "error.type": "connect-refused", "underlane.attempt.time": 0.1,
		}},
		{"underlane.attempt", 400 * time.Millisecond, map[string]any{
			"http.request.resend_count": int64(1), "network.peer.address": "10.0.0.9", "network.peer.port": int64(8080),
			"http.response.status_code": int64(503), "error.type": "503", "underlane.attempt.time": 0.25,
		}},
		{"underlane.attempt", time.Second, map[string]any{
			"http.request.resend_count": int64(2), "network.peer.address": "10.0.0.8", "network.peer.port": int64(8080),
			"http.response.status_code": int64(200), "rpc.response.status_code": "OK", "underlane.attempt.time": 0.5,
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := valuesOf(span.GetAttributes())["http.request.resend_count"]; n != int64(2) {
		t.Errorf("the span was resent %v times, want 2", n)
	}
	// The number of events is bounded. The last attempt is one of them.
	for i := range 3 * tracing.MaxAttempts {
		e.Trace.Attempted(tracing.Attempt{Status: 500 + i, GRPCStatus: -1})
	}
	span = encodeSpans([]tap.Event{e}, "v1").GetResourceSpans()[0].GetScopeSpans()[0].GetSpans()[0]
	last := valuesOf(span.GetEvents()[len(span.GetEvents())-1].GetAttributes())
	if n := len(span.GetEvents()); n != tracing.MaxAttempts || span.GetDroppedEventsCount() != uint32(3+3*tracing.MaxAttempts-n) || last["http.response.status_code"] != int64(500+3*tracing.MaxAttempts-1) {
		t.Errorf("%d events, %d dropped, the last one %v; want %d with the last attempt", n, span.GetDroppedEventsCount(), last, tracing.MaxAttempts)
	}
	e.Direction = mesh.Inbound
	if n := len(encodeSpans([]tap.Event{e}, "v1").GetResourceSpans()[0].GetScopeSpans()[0].GetSpans()[0].GetEvents()); n != 0 {
		t.Errorf("the server's span has %d events, want none", n)
	}
}
