package l7proxy

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// whimsical answers, fails, resets, stalls or says much, as luck has it.
func whimsical(w http.ResponseWriter, r *http.Request) {
	switch rand.IntN(6) {
	case 0:
		w.WriteHeader(http.StatusServiceUnavailable)
	case 1:
		panic(http.ErrAbortHandler)
	case 2:
		stalled(r.Context())
	case 3:
		_, _ = io.WriteString(w, "begin")
		_ = http.NewResponseController(w).Flush()
		stalled(r.Context())
	case 4:
		_, _ = io.Copy(w, proxytest.NewPattern(300<<10))
	default:
		n, _ := io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, strings.Repeat("x", int(n)))
	}
}

// TestH2Chaos: whatever becomes of requests with retries, time-outs, delays and
// copies, whose clients may go at any moment: each ends once, and nothing of it
// is left.
func TestH2Chaos(t *testing.T) {
	const clients, streams, requests = 3, 4, 12
	s := newShop(t)
	one, _ := serveH2C(t, whimsical)
	two, _ := serveH2C(t, whimsical)
	s.service("apex", one, two, nobody(t))
	s.service("shadow", two)
	s.route(mesh.RouteRule{
		Backends: []mesh.RouteBackend{to("apex", 1)},
		Retry:    &mesh.RouteRetry{Codes: []uint16{503}, Attempts: 3, Backoff: time.Millisecond, AnyMethod: true},
		Timeouts: mesh.RouteTimeouts{Request: 150 * time.Millisecond, BackendRequest: 50 * time.Millisecond},
		Filters: mesh.RouteFilters{
			Fault:           &mesh.RouteFault{Delay: 5 * time.Millisecond, DelayShare: mesh.Fraction{Numerator: 1, Denominator: 4}},
			Mirrors:         shadows("shadow"),
			ResponseHeaders: &mesh.HeaderModifier{Set: []mesh.HeaderField{{Name: "X-From", Value: "route"}}},
		},
	})
	var all sync.WaitGroup
	within(t, time.Minute, func() {
		for range clients {
			c := s.h2apex()
			for range streams {
				all.Go(func() {
					for range requests {
						ctx, cancel := context.WithCancel(t.Context())
						if rand.IntN(3) == 0 {
							time.AfterFunc(rand.N(40*time.Millisecond), cancel)
						}
						body := &paused{Reader: proxytest.NewPattern(rand.Int64N(100 << 10)), at: 10 << 10, pause: rand.N(5 * time.Millisecond)}
						resp, err := c.http.Do(c.request("PUT", "/", body).WithContext(ctx))
						if err == nil {
							_, _ = io.Copy(io.Discard, resp.Body)
							resp.Body.Close()
						}
						cancel()
					}
				})
			}
		}
		all.Wait()
	})
	proxytest.Eventually(t, "no stream is left", func() bool {
		return s.proxy.h2.Stats().Streams == 0
	})
	ends := map[[2]uint32]int{}
	for _, ev := range s.tap.Events() {
		if ev.Kind == tap.ResponseEnd {
			ends[[2]uint32{ev.Base, uint32(ev.Stream)}]++
		}
	}
	for id, n := range ends {
		if n != 1 {
			t.Errorf("stream %v ended %d times", id, n)
		}
	}
	// Some were cancelled before they were sent.
	if n := len(ends); n > clients*streams*requests || n < clients*streams*requests/2 {
		t.Errorf("%d exchanges for %d requests", n, clients*streams*requests)
	}
	s.proxy.lifetime.End() // the copies end with it
	proxytest.Eventually(t, "no copy is left", func() bool { return s.proxy.core.Mirrors.Active() == 0 })
	later := balance.Now() + 24*time.Hour // when latencies are forgotten
	view := s.store.View()
	for key, vip := range s.services {
		svc, port, _ := view.Service(vip)
		b := s.proxy.endpoints.Balancer(svc, port, s.local, true, view.Version())
		for range 20 { // some of each endpoint
			ticket, ok := b.Pick(balance.Now())
			if !ok {
				t.Fatalf("%v: no endpoint", key)
			}
			cost := ticket.Endpoint.Cost(later)
			b.Done(ticket, balance.Now(), balance.Outcome{Latency: -1})
			if none := ticket.Endpoint.Cost(later); cost != 2*none {
				t.Errorf("%v: %v has requests in flight: its cost is %d without this one and %d with it", key, ticket.Endpoint.Addr, none, cost)
			}
		}
	}
}
