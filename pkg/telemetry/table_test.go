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
		clear(slow.requests.lately)
		clear(slow.responses.lately)
		for p := range numPeers {
			clear(slow.conns[p].lately)
			clear(slow.closes[p].lately)
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
