package wire

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/histogram"
	"github.com/underlane/underlane/pkg/mesh"
)

var epoch = time.Unix(1_800_000_000, 0).UTC()

// same compares histograms by their buckets.
var same = cmp.Transformer("buckets", func(h *histogram.Histogram) map[int]uint64 {
	counts := map[int]uint64{}
	if h != nil {
		for bucket, n := range h.Buckets() {
			counts[bucket] = n
		}
	}
	return counts
})

func result() *figures.Result {
	web := figures.End{Namespace: "shop", Kind: "deployment", Name: "web", Pod: "web-1", Node: "node-1", Identity: "spiffe://d/ns/shop/sa/web", Meshed: true}
	db := web
	db.Name, db.Pod = "db", "db-1"
	latency := new(histogram.Histogram)
	for _, d := range []time.Duration{0, 90 * time.Microsecond, time.Millisecond, time.Millisecond, time.Hour} {
		latency.Observe(d)
	}
	full := &figures.Sums{
		Success: 3, Failures: []figures.Failure{{Reason: mesh.ReasonNone, Count: 1}, {Reason: mesh.ReasonTimeout, Count: 1}}, Retries: 4,
		Latency: latency, Parts: [figures.NumParts]time.Duration{1000, 2000, 3000, 4000, 5000},
		Opened: 5, Closed: 6, Failed: 7, Open: 8, Read: 9, Written: 10, SRTT: 11000, MinRTT: 9000, SRTTs: 12, Retransmits: 13,
	}
	return &figures.Result{
		Start: epoch, Since: epoch.Add(-time.Minute), Step: 10 * time.Second, Folded: 14, Dropped: 15,
		Edges: []figures.Edge{
			{Key: figures.Key{Source: web, Destination: db, Service: figures.Service{Namespace: "shop", Name: "db"}, Route: figures.Route{Kind: "HTTPRoute", Namespace: "shop", Name: "r", Rule: "0"}, Protocol: "grpc", TLS: "true"}, Points: []*figures.Sums{nil, full}},
			{Key: figures.Key{Direction: mesh.Inbound, Source: figures.End{Kind: figures.KindExternal}, Destination: web, Protocol: "tcp", TLS: "no-identity"}, Points: []*figures.Sums{{Opened: 1}}},
		},
	}
}

func TestRoundTrip(t *testing.T) {
	want := result()
	data, err := proto.Marshal(ToProto(want, "node-1", 0, epoch))
	if err != nil {
		t.Fatal(err)
	}
	m := &agentv1.FiguresResponse{}
	if err := proto.Unmarshal(data, m); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, FromProto(m), same); diff != "" {
		t.Error("(-want +got):", diff)
	}
	if m.GetNode() != "node-1" || len(m.GetEnds()) != 3 {
		t.Errorf("node %q with %d ends, want node-1 with 3", m.GetNode(), len(m.GetEnds()))
	}
}

// TestAgentsThatLie reads messages that no honest agent sends.
func TestAgentsThatLie(t *testing.T) {
	honest := ToProto(result(), "node-1", 0, epoch)
	for name, change := range map[string]func(*agentv1.FiguresResponse){
		"no ends":         func(m *agentv1.FiguresResponse) { m.Ends = nil },
		"no services":     func(m *agentv1.FiguresResponse) { m.Services = nil },
		"a far point":     func(m *agentv1.FiguresResponse) { m.Edges[0].Points[0].Index = 1 << 31 },
		"a far bucket":    func(m *agentv1.FiguresResponse) { m.Edges[0].Points[0].Buckets[0] = 1 << 30 },
		"few counts":      func(m *agentv1.FiguresResponse) { m.Edges[0].Points[0].Counts = nil },
		"many parts":      func(m *agentv1.FiguresResponse) { m.Edges[0].Points[0].Parts = make([]uint64, 50) },
		"a long time":     func(m *agentv1.FiguresResponse) { m.Edges[0].Points[0].Srtt = 1<<64 - 1 },
		"unknown reasons": func(m *agentv1.FiguresResponse) { m.Edges[0].Points[0].Failures[1].Reason = "new" },
		"many edges": func(m *agentv1.FiguresResponse) {
			for len(m.Edges) < 100_000 {
				m.Edges = append(m.Edges, &agentv1.FiguresEdge{Points: []*agentv1.FiguresPoint{{Index: maxPoints - 1}}})
			}
		},
		"nothing": func(m *agentv1.FiguresResponse) { proto.Reset(m) },
	} {
		m := proto.CloneOf(honest)
		change(m)
		edges := FromProto(m).Edges
		if len(edges) > maxEdges {
			t.Errorf("%s: %d edges, want at most %d", name, len(edges), maxEdges)
		}
		for _, e := range edges {
			if total := e.Total(); total.SRTT < 0 || len(e.Points) > maxPoints {
				t.Errorf("%s: %+v with %d points", name, total, len(e.Points))
			}
		}
	}
}

// TestClocksApart asks an agent whose clock is ahead.
func TestClocksApart(t *testing.T) {
	for ahead, want := range map[time.Duration]time.Duration{0: 0, time.Second: 0, -time.Second: 0, time.Minute: time.Minute, -time.Hour: -time.Hour} {
		r := &agentv1.FiguresRequest{}
		Times(r, epoch, time.Minute, 0, epoch)
		q, err := Query(r, "node-1", epoch.Add(ahead))
		if err != nil {
			t.Fatal(err)
		}
		if got := q.End.Sub(epoch); got != want || q.End.Sub(q.Start) != time.Minute {
			t.Errorf("a clock %v ahead: the end moves by %v, want %v; window %v", ahead, got, want, q.End.Sub(q.Start))
		}
		if start := ToProto(&figures.Result{Start: q.Start}, "node-1", Skew(r, epoch.Add(ahead)), epoch).GetStart().AsTime(); !start.Equal(epoch.Add(-time.Minute)) {
			t.Errorf("a clock %v ahead: the answer starts at %v, want %v", ahead, start, epoch.Add(-time.Minute))
		}
	}
	if q, err := Query(&agentv1.FiguresRequest{Start: timestamppb.New(epoch)}, "", epoch.Add(time.Hour)); err != nil || !q.End.Equal(epoch.Add(time.Hour)) {
		t.Errorf("without an end: %v, %v, want now", q.End, err)
	}
}

func TestBadRequests(t *testing.T) {
	for _, r := range []*agentv1.FiguresRequest{{Of: "web"}, {To: "deploy/"}, {From: "ns/x", FromNamespace: "y"}} {
		if _, err := Query(r, "", epoch); err == nil {
			t.Errorf("%v: no error", r)
		}
	}
}
