package telemetry

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// TestShortKeysFindTheSameSeries: which series an event has does not depend on whether its
// pointers were seen before. Pods are replaced, have the identity of others or none, and
// some are not known.
func TestShortKeysFindTheSameSeries(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	some := func(n int) int { return random.IntN(n) }
	pods := make([]*mesh.Workload, 4) // one is not known
	services := make([]*mesh.Service, 3)
	replace := func() {
		for n := range pods[1:] {
			name := string(rune('a' + n))
			pods[n+1] = &mesh.Workload{Name: name, Namespace: "ns", OwnerKind: "deployment", OwnerName: name, Identity: identity(name)}
		}
		for n := range services[1:] {
			services[n+1] = &mesh.Service{Name: string(rune('a' + n)), Namespace: "ns"}
		}
	}
	peer := func() tap.Peer {
		p := tap.Peer{Workload: pods[some(len(pods))]}
		switch some(4) {
		case 0:
		case 1:
			p.Identity = identity("other")
		default:
			if p.Workload != nil {
				p.Identity = p.Workload.Identity
			}
		}
		return p
	}
	kinds := []tap.Kind{tap.RequestInit, tap.ResponseEnd, tap.ConnOpen, tap.ConnClose, tap.LegOpen, tap.LegClose, tap.Grown}
	route := &mesh.Route{Kind: "HTTPRoute", Namespace: "ns", Name: "r"}
	quick, slow := New(Options{}), New(Options{})
	replace()
	for n := range 4_000 {
		if n%200 == 0 {
			replace()
		}
		e := &tap.Event{
			Time: time.Now(), Kind: kinds[some(len(kinds))], Source: peer(), Destination: peer(), Service: services[some(len(services))],
			Direction: []mesh.Direction{mesh.Inbound, mesh.Outbound}[some(2)], TLS: []string{tap.TLSTrue, tap.TLSNoIdentity, tap.TLSSameNode}[some(3)],
			Authority: []string{"", "a", "b"}[some(3)], Status: []int{0, 200, 503}[some(3)], GRPC: some(2) == 0, GRPCStatus: some(3),
			Reason: []mesh.Reason{mesh.ReasonNone, mesh.ReasonReset}[some(2)], Reset: some(4) == 0, Latency: time.Millisecond, Duration: time.Duration(some(3)) * time.Second,
			Side: []tap.Side{tap.ClientSide, tap.ServerSide}[some(2)], ReadBytes: 3, WriteBytes: 5,
		}
		if e.Direction == mesh.Outbound && some(3) == 0 {
			e.Route = route
		}
		quick.Emit(e)
		slow.requests.forgetLately()
		slow.responses.forgetLately()
		for p := range numPeers {
			slow.conns[p].forgetLately()
			slow.closes[p].forgetLately()
		}
		slow.Emit(e)
	}
	families := []string{"request_", "response_", "tcp_", "route_"}
	want, got := scrape(t, slow, families...), scrape(t, quick, families...)
	if len(want) < 1000 {
		t.Errorf("%d series; want many of them", len(want))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-without short keys +with:\n%s", d)
	}
}

// TestShortKeysAreBounded: pods that are replaced do not stay behind short keys.
// TestOftenAndSweep: an event of a series that is used often, and was swept, begins it anew, and
// an event keeps the series of a moment ago.
func TestOftenAndSweep(t *testing.T) {
	m := New(Options{})
	e := &tap.Event{Kind: tap.RequestInit, Direction: mesh.Outbound, Time: time.Now(), Source: tap.Peer{Workload: &mesh.Workload{Name: "web"}}}
	emit := func() { m.Emit(e) }
	for range 3 {
		emit()
	}
	if n := used(&m.requests.often); n != 1 {
		t.Errorf("%d slots are in use, want that of the only series", n)
	}
	m.requests.sweep(time.Now().Add(-time.Minute), nil)
	emit()
	counts(t, m, 4)
	m.requests.sweep(time.Now().Add(time.Minute), nil)
	if n := used(&m.requests.often); n != 0 {
		t.Errorf("%d slots are in use after a sweep", n)
	}
	emit()
	counts(t, m, 1)
}

func used[S any](o *often[S]) (n int) {
	for i := range o.Table {
		if o.Table[i].Load() != nil {
			n++
		}
	}
	return n
}

// counts checks the counter of the only series of requests.
func counts(t *testing.T, m *Metrics, want uint64) {
	t.Helper()
	series := 0
	m.requests.each(func(s *requestSeries) {
		if series++; s.total.Load() != want {
			t.Errorf("%d requests counted, want %d", s.total.Load(), want)
		}
	})
	if series != 1 {
		t.Errorf("%d series, want 1", series)
	}
}

// TestOftenReplaces: a key that is used often gets a slot that others have taken.
func TestOftenReplaces(t *testing.T) {
	var o often[requestSeries]
	series := map[short]*entry[requestSeries]{}
	for range 10_000 {
		k := short{own: new(mesh.Workload)}
		series[k] = &entry[requestSeries]{value: new(requestSeries)}
		o.remember(&k, series[k])
	}
	k := short{own: new(mesh.Workload)}
	e := &entry[requestSeries]{value: new(requestSeries)}
	for range 100_000 {
		if !o.update(&k, time.Now(), func(s *requestSeries) { s.total.Add(1) }) {
			o.remember(&k, e)
		}
	}
	if n := e.value.total.Load(); n < 90_000 {
		t.Errorf("found in a slot %d times of 100,000", n)
	}
	for k, e := range series {
		if n := e.value.total.Load(); n != 0 {
			t.Fatalf("%d events of another key were counted for %v", n, k)
		}
	}
}

func TestShortKeysAreBounded(t *testing.T) {
	m := New(Options{MaxSeries: 8})
	for range 1000 {
		m.Emit(event(tap.RequestInit, nil)) // of pods of the same names
	}
	if n := len(m.requests.lately); n == 0 || n > 16 {
		t.Errorf("%d short keys of one series; want some, and at most twice the limit of series", n)
	}
	m.requests.sweep(time.Now().Add(-time.Hour), nil)
	if n := len(m.requests.lately); n != 0 {
		t.Errorf("%d short keys after a sweep, want none", n)
	}
}
