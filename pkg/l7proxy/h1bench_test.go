package l7proxy

import (
	"bytes"
	"io"
	"math"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// unwatched is an observer of metrics alone.
type unwatched struct{}

func (unwatched) Emit(*tap.Event)         {}
func (unwatched) Active() bool            { return false }
func (unwatched) Headers() *tap.Redaction { return nil }

const (
	benchRequest  = "GET /a/path HTTP/1.1\r\nHost: svc.ns\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
	benchResponse = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
)

// h1Loop is a client whose requests go through a proxy to a server, neither of
// which allocates; by a route, if rules are given.
func h1Loop(t testing.TB, rules ...mesh.RouteRule) (exchange func()) {
	c, err := net.Dial("tcp", h1Server(t, rules...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return h1Exchange(t, c)
}

// h1Exchange makes a request on c.
func h1Exchange(t testing.TB, c net.Conn) (exchange func()) {
	request, buf := []byte(benchRequest), make([]byte, len(benchResponse))
	return func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, buf); err != nil {
			t.Fatal(err)
		}
	}
}

// h1Server is a server that does not allocate. It returns the address of the proxy before it.
func h1Server(t testing.TB, rules ...mesh.RouteRule) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serve := func(c net.Conn) {
		defer c.Close()
		buf, answer := make([]byte, 4096), []byte(benchResponse)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			if !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
				t.Errorf("half a request: %q", buf[:n])
				return
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
	serving.Go(func() {
		for { // the proxy may have made a connection ahead of the client's first byte
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	s := newShop(t)
	s.proxy.core.Tap, s.proxy.core.Sampling = unwatched{}, loopSampling
	dst := l.Addr().String()
	if len(rules) > 0 {
		s.service("apex", dst)
		s.route(rules...)
		dst = s.services["apex"].String()
	}
	return s.to(dst)
}

// busyRules are rules of which the last one matches, and does something of
// everything that is done on the way of a request.
func busyRules() []mesh.RouteRule {
	last := mesh.RouteRule{
		Matches: []mesh.RouteMatch{{
			Path:    mesh.PathMatch{Value: "/a"},
			Headers: []mesh.ValueMatch{{Name: "User-Agent", Value: "b.*h", Regex: true}},
		}},
		Backends: []mesh.RouteBackend{to("apex", 1)},
		Timeouts: mesh.RouteTimeouts{Request: time.Minute, BackendRequest: time.Minute},
		Retry:    &mesh.RouteRetry{Codes: []uint16{503}, Attempts: 1},
	}
	last.Filters.RequestHeaders = &mesh.HeaderModifier{Set: []mesh.HeaderField{{Name: "accept", Value: "text/plain"}}}
	last.Filters.ResponseHeaders = &mesh.HeaderModifier{Set: []mesh.HeaderField{{Name: "content-type", Value: "text/plain"}}}
	last.Filters.Rewrite = &mesh.RouteRewrite{Path: mesh.PathRewrite{Kind: mesh.PathReplacePrefix, Value: "/b"}}
	other := mesh.RouteRule{Matches: []mesh.RouteMatch{{Path: mesh.PathMatch{Kind: mesh.PathExact, Value: "/other"}}}, Backends: last.Backends}
	return []mesh.RouteRule{other, last}
}

func BenchmarkH1Request(b *testing.B) {
	for name, rules := range map[string][]mesh.RouteRule{"plain": nil, "routed": busyRules()} {
		b.Run(name, func(b *testing.B) {
			exchange := h1Loop(b, rules...)
			exchange()
			b.ReportAllocs()
			for b.Loop() {
				exchange()
			}
		})
	}
}

// h1Connect makes a connection for one request.
func h1Connect(t testing.TB, addr string) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	h1Exchange(t, c)()
	c.Close()
}

func BenchmarkH1Connection(b *testing.B) {
	addr := h1Server(b)
	b.ReportAllocs()
	for b.Loop() {
		h1Connect(b, addr)
	}
}

// TestH1Garbage is the budget of a connection in bytes, with the client's own 1.5 KB. Where each
// request has a connection, the garbage collector runs as often as there is more.
func TestH1Garbage(t *testing.T) {
	addr := h1Server(t)
	const conns, budget = 500, garbageFactor * 8000
	for range 20 {
		h1Connect(t, addr)
	}
	// The least of some tries: what earlier tests have left allocates, too, and a collection
	// empties the pools.
	least := uint64(math.MaxUint64)
	for try := 0; try < 10 && least > budget; try++ {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range conns {
			h1Connect(t, addr)
		}
		runtime.ReadMemStats(&after)
		least = min(least, (after.TotalAlloc-before.TotalAlloc)/conns)
	}
	if least > budget {
		t.Errorf("%d bytes a connection, want at most %d", least, budget)
	}
}

// TestH1Allocations is the budget of a request in the steady state.
func TestH1Allocations(t *testing.T) {
	for name, tt := range map[string]struct {
		budget float64
		rules  []mesh.RouteRule
	}{
		"plain":  {0, nil},
		"routed": {0, busyRules()},
	} {
		t.Run(name, func(t *testing.T) { testH1Allocations(t, tt.budget, h1Loop(t, tt.rules...)) })
	}
}

func testH1Allocations(t *testing.T, budget float64, exchange func()) {
	for range 100 {
		exchange()
	}
	const requests = 2000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range requests {
		exchange()
	}
	runtime.ReadMemStats(&after)
	if got := float64(after.Mallocs-before.Mallocs) / requests; got > budget+allocSlack {
		t.Errorf("%.2f allocations a request, want %v", got, budget)
	}
}
