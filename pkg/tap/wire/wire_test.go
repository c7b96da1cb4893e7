package wire

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/tap"
)

func full() tap.Event {
	return tap.Event{
		Kind: tap.ResponseEnd, Origin: tap.FromKernel, Direction: mesh.Inbound,
		Time: time.Unix(1_700_000_000, 42).UTC(), Base: 7, Stream: 9,
		Source: tap.Peer{
			Addr:     netip.MustParseAddrPort("10.0.1.2:4242"),
			Workload: &mesh.Workload{Name: "web-1", Namespace: "ns", ServiceAccount: "web", Node: "node-1", OwnerKind: "deployment", OwnerName: "web", Meshed: true},
			Identity: mesh.Identity{TrustDomain: "cluster.local", Namespace: "ns", ServiceAccount: "web"},
		},
		Destination: tap.Peer{
			Addr:     netip.MustParseAddrPort("[fd00::2]:80"),
			Workload: &mesh.Workload{Name: "voting-1", Namespace: "ns"},
			Identity: mesh.Identity{TrustDomain: "cluster.local", Namespace: "ns", ServiceAccount: "voting"},
		},
		Service: &mesh.Service{Name: "svc", Namespace: "ns"}, TLS: tap.TLSTrue,
		Protocol: "grpc", Method: "POST", Scheme: "http", Authority: "svc.ns", Path: "/p", SNI: "sni", DNS: "db.example.com",
		Status: 200, GRPC: true, GRPCStatus: 14, Reset: true, ResetCode: 8,
		Latency: time.Millisecond, Duration: 2 * time.Second, ReadBytes: 3, WriteBytes: 4,
		Route: &mesh.Route{Kind: "HTTPRoute", Namespace: "ns", Name: "r"}, Rule: "first", Retries: 2,
		Reason: mesh.ReasonPolicyDenied, Process: "curl", SRTT: 5 * time.Microsecond, MinRTT: 4 * time.Microsecond, Retransmits: 6,
		Asked: 70,
		Split: tap.Split{Queue: 1, Connect: 2, TLS: 3, FirstByte: 4, Body: 5}, Side: tap.ServerSide,
		Legs: &tap.Legs{
			Client: tap.Leg{SRTT: 1, Retransmits: 2, Received: 3, Sent: 4, Unread: 5},
			Server: tap.Leg{SRTT: 6, MinRTT: 5, Retransmits: 7, Received: 8, Sent: 9, Unread: 10},
		},
		Headers: &tap.Headers{List: []tap.Header{{Name: "grpc-message", Value: "\xff"}, {Name: "x", Value: ""}}, Cut: true, Bytes: 14},
		Judged:  &calls.Entry{Finding: &authz.Finding{Denied: true, Why: authz.WhyRule, Object: "Server.policy.linkerd.io ns/s", Rule: "1", Audit: "a", WouldDeny: "b"}},
	}
}

// inAgent are the fields of an event for sinks in the agent's process, which readers of tap do
// not get.
var inAgent = map[string]bool{"Live": true, "Counted": true, "Trace": true, "Head": true, "Untold": true, "Outside": true}

// TestRoundTrip checks that every other field of an event survives the conversion. It
// fails for a field of tap.Event that this package does not convert.
func TestRoundTrip(t *testing.T) {
	want := full()
	v := reflect.ValueOf(want)
	for i := range v.NumField() {
		if v.Field(i).IsZero() && !inAgent[v.Type().Field(i).Name] {
			t.Errorf("the field %s of the test's event is zero, want every field set", v.Type().Field(i).Name)
		}
	}
	data, err := proto.Marshal(Batch([]tap.Event{want}, 3))
	if err != nil {
		t.Fatal(err)
	}
	var batch agentv1.TapEvents
	if err := proto.Unmarshal(data, &batch); err != nil {
		t.Fatal(err)
	}
	if batch.GetLost() != 3 || len(batch.GetEvents()) != 1 {
		t.Fatalf("batch of %d events, %d lost; want 1 and 3", len(batch.GetEvents()), batch.GetLost())
	}
	opts := cmp.Options{cmpopts.EquateComparable(netip.AddrPort{}), cmp.Comparer(func(a, b *calls.Entry) bool { return *a.Finding == *b.Finding })}
	if diff := cmp.Diff(want, FromProto(batch.GetEvents()[0]), opts); diff != "" {
		t.Errorf("event after the conversion (-want +got):\n%s", diff)
	}
}

func TestInvalidUTF8(t *testing.T) {
	m := ToProto(&tap.Event{Path: "/\xff", Authority: "\xc3", SNI: "\x80", Method: "\xfe", Scheme: "\xfe", Process: "\xfe"})
	if _, err := proto.Marshal(m); err != nil {
		t.Errorf("an event with invalid UTF-8: got %v, want no error", err)
	}
}

func TestZero(t *testing.T) {
	var want tap.Event
	got := FromProto(ToProto(&want))
	if !got.Time.Equal(want.Time) {
		t.Errorf("got the time %v, want %v", got.Time, want.Time)
	}
	got.Time = want.Time
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("zero event after the conversion (-want +got):\n%s", diff)
	}
	_ = FromProto(nil)
}
