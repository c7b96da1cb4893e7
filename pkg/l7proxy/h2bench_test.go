package l7proxy

import (
	"net"
	"runtime"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
)

// h2Loop is a client whose requests of 1 KiB each way go through the driver, 16
// at a time on one connection. Client and server are bare engines. The returned
// function goes on until one more request is done, and returns how many are. With
// rules it goes by a route.
func h2Loop(t testing.TB, grpc bool, rules ...mesh.RouteRule) func() int {
	addr := refusingBackend(t, nil)
	if len(rules) == 0 {
		e := newH2Env(t, addr)
		addr = e.addr
	} else {
		s := newShop(t)
		s.proxy.core.Tap, s.proxy.core.Sampling = unwatched{}, loopSampling
		s.service("apex", addr)
		s.route(rules...)
		addr = s.to(s.services["apex"].String())
	}
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	c := http2.New(http2.Config{Role: http2.Client})
	head := []http2.Field{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: "/a/t.T/Unary"},
		{Name: ":authority", Value: "svc.ns"},
		{Name: "user-agent", Value: "bench"},
		{Name: "content-type", Value: "application/x"},
		{Name: "te", Value: "trailers"},
	}
	if grpc {
		head[5].Value = "application/grpc"
		head = append(head, http2.Field{Name: "grpc-timeout", Value: "1M"})
	}
	body := make([]byte, 1024)
	buf := make([]byte, 32<<10)
	var spare []byte
	open, done := 0, 0
	return func() int {
		for open-done < 16 {
			id, err := c.OpenStream(head, false)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.WriteData(id, body, true)
			open++
		}
		for target := done + 1; done < target; {
			spare = c.TakeOutput(spare)
			if _, err := nc.Write(spare); err != nil {
				t.Fatal(err)
			}
			n, err := nc.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			events, err := c.Feed(buf[:n])
			if err != nil {
				t.Fatal(err)
			}
			for i := range events {
				c.Consume(events[i].Stream, len(events[i].Payload))
				if events[i].EndStream {
					done++
				}
			}
		}
		return done
	}
}

func BenchmarkH2Request(b *testing.B) {
	for name, next := range h2Loops() {
		b.Run(name, func(b *testing.B) {
			next := next(b)
			done := 0
			b.ReportAllocs()
			for b.Loop() {
				done = next()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(done), "ns/request")
		})
	}
}

func h2Loops() map[string]func(testing.TB) func() int {
	return map[string]func(testing.TB) func() int{
		"plain":  func(t testing.TB) func() int { return h2Loop(t, false) },
		"grpc":   func(t testing.TB) func() int { return h2Loop(t, true) },
		"routed": func(t testing.TB) func() int { return h2Loop(t, false, busyRules()...) },
	}
}

// TestH2Allocations is the budget of a request in the steady state: one for the
// stream, and one for what it does not always need, such as a rewritten path.
func TestH2Allocations(t *testing.T) {
	for name, next := range h2Loops() {
		t.Run(name, func(t *testing.T) { testH2Allocations(t, next(t)) })
	}
}

func testH2Allocations(t *testing.T, next func() int) {
	const (
		budget = 2
		server = 1 // the test's own, which keeps the body
	)
	for next() < 200 {
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := next()
	done := began
	for done < began+2000 {
		done = next()
	}
	runtime.ReadMemStats(&after)
	got := float64(after.Mallocs-before.Mallocs)/float64(done-began) - server
	t.Logf("%.2f allocations a request", got)
	if got > budget+allocSlack {
		t.Errorf("%.2f allocations a request, want %d", got, budget)
	}
}
