package figures

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// epoch is the beginning of a window.
var epoch = time.Unix(1_800_000_000, 0)

func pod(deploy string, n int, node string) *mesh.Workload {
	return &mesh.Workload{
		UID: fmt.Sprint(deploy, n), Name: fmt.Sprintf("%s-%d", deploy, n), Namespace: "shop", Node: node,
		OwnerKind: "deployment", OwnerName: deploy, Meshed: true,
		Identity: mesh.Identity{TrustDomain: "d", Namespace: "shop", ServiceAccount: deploy},
	}
}

func request(from, to *mesh.Workload, status int, latency time.Duration) *tap.Event {
	return &tap.Event{
		Kind: tap.ResponseEnd, TLS: tap.TLSTrue, Protocol: "http1", Status: status,
		Source: tap.Peer{Workload: from}, Destination: tap.Peer{Workload: to},
		Latency: latency, Duration: latency + time.Millisecond, Split: tap.Split{FirstByte: latency, Body: time.Millisecond},
	}
}

func connection(kind tap.Kind, from, to *mesh.Workload) *tap.Event {
	e := &tap.Event{Kind: kind, TLS: tap.TLSTrue, Protocol: "tcp", Source: tap.Peer{Workload: from}, Destination: tap.Peer{Workload: to}}
	if kind == tap.ConnClose {
		e.Duration, e.ReadBytes, e.WriteBytes, e.SRTT, e.Retransmits = time.Second, 10, 20, 3*time.Millisecond, 2
	}
	return e
}

// all asks for everything in one point.
func all(s *Store, now time.Time) *Result {
	return s.Query(Query{Start: epoch, End: now}, now)
}

var ignoreLatency = cmpopts.IgnoreFields(Sums{}, "Latency")

func TestFiguresOfAnEdge(t *testing.T) {
	s := NewStore(Options{}, epoch)
	web, db := pod("web", 1, "node-1"), pod("db", 1, "node-2")
	svc := &mesh.Service{Namespace: "shop", Name: "db"}
	route := &mesh.Route{Kind: "HTTPRoute", Namespace: "shop", Name: "r"}
	emit := func(e *tap.Event) {
		e.Service, e.Route, e.Rule = svc, route, "0"
		s.Emit(e)
	}
	for range 3 {
		emit(request(web, db, 200, 4*time.Millisecond))
	}
	emit(request(web, db, 503, 4*time.Millisecond))
	refused := request(web, db, 502, 2*time.Millisecond)
	refused.Reason, refused.Retries = mesh.ReasonConnectRefused, 2
	emit(refused)
	s.Rotate(epoch.Add(Window))
	emit(request(web, db, 404, 8*time.Millisecond)) // the next window, and no failure

	got := all(s, epoch.Add(Window+time.Second))
	if len(got.Edges) != 1 {
		t.Fatalf("%d edges, want 1: %+v", len(got.Edges), got.Edges)
	}
	key := Key{
		Source:      End{Namespace: "shop", Kind: "deployment", Name: "web", Pod: "web-1", Node: "node-1", Identity: "spiffe://d/ns/shop/sa/web", Meshed: true},
		Destination: End{Namespace: "shop", Kind: "deployment", Name: "db", Pod: "db-1", Node: "node-2", Identity: "spiffe://d/ns/shop/sa/db", Meshed: true},
		Service:     Service{"shop", "db"}, Route: Route{"HTTPRoute", "shop", "r", "0"}, Protocol: "http1", TLS: "true",
	}
	if diff := cmp.Diff(key, got.Edges[0].Key); diff != "" {
		t.Error("key (-want +got):", diff)
	}
	total := got.Edges[0].Total()
	want := &Sums{
		Success: 4, Failures: []Failure{{mesh.ReasonNone, 1}, {mesh.ReasonConnectRefused, 1}}, Retries: 2,
		Parts: [NumParts]time.Duration{FirstByte: 26 * time.Millisecond, Body: 6 * time.Millisecond},
	}
	if diff := cmp.Diff(want, total, ignoreLatency); diff != "" {
		t.Error("sums (-want +got):", diff)
	}
	if n, q := total.Latency.Count(), total.Latency.Quantile(0.5); n != 6 || q < 3800*time.Microsecond || q > 4200*time.Microsecond {
		t.Errorf("%d latencies with the median %v, want 6 and 4 ms", n, q)
	}
}

// TestSameNode: a call between pods of one node is emitted once, and counts for both.
func TestSameNode(t *testing.T) {
	s := NewStore(Options{}, epoch)
	e := request(pod("web", 1, "node-1"), pod("db", 1, "node-1"), 200, time.Millisecond)
	e.TLS, e.Service = tap.TLSSameNode, &mesh.Service{Namespace: "shop", Name: "db"}
	s.Emit(e)
	got := map[mesh.Direction]Service{}
	for _, e := range all(s, epoch.Add(time.Second)).Edges {
		got[e.Key.Direction] = e.Key.Service
	}
	want := map[mesh.Direction]Service{mesh.Outbound: {"shop", "db"}, mesh.Inbound: {}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("(-want +got):", diff)
	}
}

func TestEndsOutsideTheMesh(t *testing.T) {
	s := NewStore(Options{}, epoch)
	web := pod("web", 1, "node-1")
	unknown := request(web, nil, 200, time.Millisecond)
	unknown.Destination.Addr = addr("192.0.2.7:443")
	named := *unknown
	named.Outside = "example.com"
	noEndpoint := *unknown
	noEndpoint.Service = &mesh.Service{Namespace: "shop", Name: "empty"}
	client := request(nil, web, 200, time.Millisecond)
	client.Direction, client.Source.Addr = mesh.Inbound, addr("198.51.100.1:999")
	resolved := *unknown
	resolved.DNS, resolved.Destination.Addr = "db.example.com", addr("[2001:db8::7]:5432")
	for _, e := range []*tap.Event{unknown, &named, &noEndpoint, client, &resolved} {
		s.Emit(e)
	}
	got := map[string]bool{}
	for _, e := range all(s, epoch.Add(time.Second)).Edges {
		got[fmt.Sprintf("%s %s to %s %s service %s", e.Key.Source.Kind, e.Key.Source.Name, e.Key.Destination.Kind, e.Key.Destination.Name+e.Key.Destination.Address, e.Key.Service.Name)] = true
	}
	want := map[string]bool{
		"deployment web to external 192.0.2.7:443 service ": true,
		"deployment web to external example.com service ":   true,
		"deployment web to   service empty":                 true,
		"external  to deployment web service ":              true,

		"deployment web to external db.example.com:5432[2001:db8::7]:5432 service ": true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("(-want +got):", diff)
	}
}

// TestConnectionsOfRequests: of the two connections that a request passes, the one that
// leads to the other pod counts.
func TestConnectionsOfRequests(t *testing.T) {
	s := NewStore(Options{}, epoch)
	web, db := pod("web", 1, "node-1"), pod("db", 1, "node-2")
	for _, d := range []mesh.Direction{mesh.Outbound, mesh.Inbound} {
		for _, side := range []tap.Side{tap.ClientSide, tap.ServerSide} {
			for _, kind := range []tap.Kind{tap.LegOpen, tap.LegClose, tap.LegOpen} {
				e := connection(tap.ConnClose, web, db)
				e.Kind, e.Direction, e.Side, e.ReadBytes = kind, d, side, uint64(side)
				s.Emit(e)
			}
		}
	}
	got := map[mesh.Direction]*Sums{}
	for _, e := range all(s, epoch.Add(time.Second)).Edges {
		got[e.Key.Direction] = e.Total()
	}
	sums := func(read uint64) *Sums {
		return &Sums{Opened: 2, Closed: 1, Open: 1, Read: read, Written: 20, SRTT: 3 * time.Millisecond, SRTTs: 1, Retransmits: 2}
	}
	want := map[mesh.Direction]*Sums{mesh.Outbound: sums(uint64(tap.ServerSide)), mesh.Inbound: sums(uint64(tap.ClientSide))}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("(-want +got):", diff)
	}
}

// TestSteps cuts the time into points and looks at the connections that are open at the
// end of each.
func TestSteps(t *testing.T) {
	s := NewStore(Options{}, epoch)
	web, db := pod("web", 1, "node-1"), pod("db", 1, "node-2")
	s.Emit(connection(tap.ConnOpen, web, db)) // window 0
	s.Emit(connection(tap.ConnOpen, web, db))
	s.Rotate(epoch.Add(Window))
	s.Emit(connection(tap.ConnClose, web, db)) // window 1
	s.Rotate(epoch.Add(2 * Window))
	s.Emit(connection(tap.ConnClose, web, db)) // window 2
	failed := connection(tap.ConnClose, web, db)
	failed.Duration, failed.Reason = 0, mesh.ReasonConnectRefused
	s.Emit(failed)
	s.Rotate(epoch.Add(6 * Window)) // windows 3 to 5 are empty
	s.Emit(connection(tap.ConnOpen, web, db))

	now := epoch.Add(6*Window + time.Second)
	r := s.Query(Query{Start: epoch.Add(time.Second), End: now, Step: 2 * Window}, now)
	if len(r.Edges) != 1 || !r.Start.Equal(epoch) {
		t.Fatalf("%d edges from %v, want 1 from %v", len(r.Edges), r.Start, epoch)
	}
	closed := Sums{Closed: 1, Read: 10, Written: 20, SRTT: 3 * time.Millisecond, SRTTs: 1, Retransmits: 2}
	first, second, last := closed, closed, Sums{Opened: 1, Open: 1}
	first.Opened, first.Open, second.Failed = 2, 1, 1
	if diff := cmp.Diff([]*Sums{&first, &second, nil, &last}, r.Edges[0].Points); diff != "" {
		t.Error("points (-want +got):", diff)
	}
	total := Sums{Opened: 3, Closed: 2, Failed: 1, Open: 1, Read: 20, Written: 40, SRTT: 6 * time.Millisecond, SRTTs: 2, Retransmits: 4}
	if diff := cmp.Diff(&total, r.Edges[0].Total()); diff != "" {
		t.Error("total (-want +got):", diff)
	}
	if one := s.Query(Query{Start: epoch, End: epoch.Add(Window)}, now); len(one.Edges) != 1 || one.Edges[0].Points[0].Open != 2 {
		t.Errorf("the first window alone: %+v, want 2 open connections", one.Edges)
	}
	if none := s.Query(Query{Start: now.Add(time.Hour), End: now.Add(2 * time.Hour)}, now); len(none.Edges) != 0 {
		t.Errorf("the future: %+v, want nothing", none.Edges)
	}
}

// TestQueriesOfAnyTime: what comes from a caller does not matter.
func TestQueriesOfAnyTime(t *testing.T) {
	s := NewStore(Options{}, epoch)
	s.Emit(request(pod("web", 1, "node-1"), pod("db", 1, "node-2"), 200, time.Millisecond))
	now := epoch.Add(time.Second)
	times := []time.Time{{}, time.Unix(0, 0), epoch.Add(-time.Hour), epoch, now, epoch.Add(time.Hour), time.Unix(1<<40, 0)}
	for _, start := range times {
		for _, end := range times {
			for _, step := range []time.Duration{0, -1, 1, Window, time.Hour, 1<<63 - 1} {
				r := s.Query(Query{Start: start, End: end, Step: step}, now)
				want := 0
				if !start.After(now) && end.After(epoch) {
					want = 1
				}
				if len(r.Edges) != want || want > 0 && (len(r.Edges[0].Points) > maxPoints || r.Edges[0].Total().Requests() != 1) {
					t.Errorf("%v to %v by %v: %+v, want %d edges", start, end, step, r.Edges, want)
				}
			}
		}
	}
}

// TestForgets fills more windows than are kept, and looks at what is left.
func TestForgets(t *testing.T) {
	s := NewStore(Options{Windows: 3}, epoch)
	web, db := pod("web", 1, "node-1"), pod("db", 1, "node-2")
	for i := range 10 {
		s.Emit(request(web, db, 200, time.Millisecond))
		s.Rotate(epoch.Add(time.Duration(i+1) * Window))
	}
	now := epoch.Add(10 * Window)
	r := all(s, now)
	if got := r.Edges[0].Total().Requests(); got != 3 || !r.Since.Equal(now.Add(-3*Window)) {
		t.Errorf("%d requests since %v, want 3 since %v", got, r.Since, now.Add(-3*Window))
	}
	now = now.Add(time.Hour)
	if r := all(s, now); len(r.Edges) != 0 || len(s.edges) != 0 || len(s.names.ends) != 0 || len(s.windows) != 0 {
		t.Errorf("an hour later: %d edges, %d keys, %d names, %d windows, want none", len(r.Edges), len(s.edges), len(s.names.ends), len(s.windows))
	}
	s.Emit(request(web, db, 200, time.Millisecond))
	if r := s.Query(Query{Start: now, End: now.Add(Window)}, now); len(r.Edges) != 1 {
		t.Errorf("then: %d edges, want 1", len(r.Edges))
	}
}

func TestClockIsSetBack(t *testing.T) {
	s := NewStore(Options{}, epoch)
	web, db := pod("web", 1, "node-1"), pod("db", 1, "node-2")
	s.Emit(request(web, db, 200, time.Millisecond))
	s.Rotate(epoch.Add(Window))
	s.Emit(request(web, db, 200, time.Millisecond))
	s.Rotate(epoch) // by a little: the window goes on
	before := epoch.Add(-time.Hour)
	s.Rotate(before)
	s.Emit(request(web, db, 200, time.Millisecond))
	r := s.Query(Query{Start: before, End: before.Add(Window)}, before.Add(time.Second))
	if len(r.Edges) != 1 || r.Edges[0].Total().Requests() != 1 || !r.Since.Equal(before) {
		t.Errorf("%d edges since %v, want 1 with 1 request since %v", len(r.Edges), r.Since, before)
	}
}

func TestRunRotates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStore(Options{}, time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		start := time.Now()
		for range 3 {
			s.Emit(request(pod("web", 1, "n"), pod("db", 1, "m"), 200, time.Millisecond))
			time.Sleep(Window)
			synctest.Wait()
		}
		s.mu.Lock()
		n := len(s.windows)
		s.mu.Unlock()
		if r := s.Query(Query{Start: start, End: time.Now()}, time.Now()); n != 3 || r.Edges[0].Total().Requests() != 3 {
			t.Errorf("%d windows with %d requests, want 3 with 3", n, r.Edges[0].Total().Requests())
		}
		cancel()
		<-done
	})
}

// TestNothingIsLost counts, rotates and reads at once.
func TestNothingIsLost(t *testing.T) {
	const workers, each = 4, 5000
	s := NewStore(Options{}, epoch)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				status := 200
				if i%10 == 0 {
					status = 500
				}
				s.Emit(request(pod("web", i%50, "node-1"), pod("db", w, "node-2"), status, time.Duration(i)*time.Microsecond))
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	now := epoch
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		if now.Sub(epoch) < 80*Window {
			now = now.Add(Window)
		}
		s.Rotate(now)
		all(s, now)
	}
	var success, failed, latencies uint64
	for _, e := range all(s, now.Add(time.Second)).Edges {
		total := e.Total()
		success, failed, latencies = success+total.Success, failed+total.FailedRequests(), latencies+total.Latency.Count()
	}
	if total := uint64(workers * each); success != total*9/10 || failed != total/10 || latencies != total {
		t.Errorf("%d successes, %d failures, %d latencies of %d requests with a tenth failing", success, failed, latencies, total)
	}
}
