package l7proxy

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
	"go.uber.org/goleak"
)

// h2env is a proxy's HTTP/2 driver on loopback, between a client and backends
// that the test chooses.
type h2env struct {
	t      testing.TB
	proxy  *Proxy
	addr   string
	target *h2target
	tap    *h2recorder
	ctx    context.Context
	stop   context.CancelFunc // drains the sessions
}

// newH2Env starts the driver in front of backends; it checks that nothing of
// it is left at the end of the test.
func newH2Env(t testing.TB, backends ...string) *h2env {
	return newH2EnvWith(t, Limits{IdleTimeout: time.Minute}, backends...)
}

func newH2EnvWith(t testing.TB, limits Limits, backends ...string) *h2env {
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	rec := &h2recorder{}
	e := &h2env{t: t, tap: rec, target: &h2target{}}
	for _, b := range backends {
		e.target.backends = append(e.target.backends, netip.MustParseAddrPort(b))
	}
	e.proxy = New(Options{
		Tap: rec, Log: slog.New(slog.DiscardHandler), Limits: limits,
		Network: &loopback{}, State: &knownState{state.NewStore("node-1")},
	})
	e.ctx, e.stop = context.WithCancel(context.Background())
	l := rawListen(t)
	e.addr = l.Addr().String()
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() {
				s := &Session{proxy: e.proxy, ID: e.proxy.ids.Add(1), Client: nc, target: e.target}
				s.serveHTTP2(e.ctx)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		e.stop()
		e.proxy.h2.closeAll()
		sessions.Wait()
		e.proxy.absences.stop()
	})
	return e
}

// h2target picks backends in turn.
type h2target struct {
	mu       sync.Mutex
	backends []netip.AddrPort
	balancer *balance.Balancer // of backends, from the first pick on
	client   mesh.Workload
	next     int
	dials    int
	refuse   mesh.Reason
}

func (h *h2target) pick(s *Session, c *Choice, _ *place, exclude []netip.AddrPort) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuse != mesh.ReasonNone {
		return mesh.Fail(h.refuse, nil)
	}
	if h.balancer == nil {
		var endpoints []mesh.Endpoint
		for _, addr := range h.backends {
			endpoints = append(endpoints, mesh.Endpoint{Addr: addr, Ready: true})
		}
		h.balancer = balance.New()
		h.balancer.Update(balance.Now(), endpoints, nil, true)
	}
	for range h.backends {
		addr := h.backends[h.next%len(h.backends)]
		h.next++
		if !slices.Contains(exclude, addr) {
			var others []netip.AddrPort
			if len(h.backends) > 1 {
				others = slices.DeleteFunc(slices.Clone(h.backends), func(a netip.AddrPort) bool { return a == addr })
			}
			ticket, _ := h.balancer.Pick(balance.Now(), others...)
			*c = Choice{Key: PoolKey{Addr: addr}, Peer: tap.Peer{Addr: addr}, TLS: "true", from: &h.client, load: newLoad(s.proxy, h.balancer, ticket)}
			return nil
		}
	}
	return mesh.Fail(mesh.ReasonNoEndpoints, nil)
}

func (h *h2target) dial(ctx context.Context, _ *Session, c *Choice, _ string) (Conn, error) {
	h.mu.Lock()
	h.dials++
	h.mu.Unlock()
	nc, err := (&loopback{}).Dial(ctx, "", c.Peer.Addr)
	if err != nil {
		return nil, mesh.Fail(mesh.ReasonConnectRefused, err)
	}
	return nc, nil
}

func (h *h2target) service() *mesh.Service { return nil }

// h2recorder keeps the ends of exchanges.
type h2recorder struct {
	mu           sync.Mutex
	inits, heads int
	ends         []tap.Event
}

func (r *h2recorder) Active() bool { return true }

func (r *h2recorder) Emit(e *tap.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Kind {
	case tap.RequestInit:
		r.inits++
	case tap.ResponseInit:
		r.heads++
	case tap.ResponseEnd:
		r.ends = append(r.ends, *e)
	}
}

// end waits for the n-th ResponseEnd.
func (r *h2recorder) end(t *testing.T, n int) tap.Event {
	t.Helper()
	for range 500 {
		r.mu.Lock()
		if len(r.ends) > n {
			defer r.mu.Unlock()
			return r.ends[n]
		}
		r.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("no ResponseEnd number %d", n)
	return tap.Event{}
}

// serveH2C starts net/http's HTTP/2 server.
func serveH2C(t *testing.T, h http.HandlerFunc) (addr string, srv *http.Server) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv = &http.Server{Handler: h, Protocols: new(http.Protocols)}
	srv.Protocols.SetUnencryptedHTTP2(true)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return l.Addr().String(), srv
}

func (e *h2env) client() *http.Client {
	tr := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	tr.Protocols.SetUnencryptedHTTP2(true)
	e.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func (e *h2env) url(path string) string { return "http://" + e.addr + path }

// pattern is a reader of n bytes that are not all alike.
type pattern struct{ at, n int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.at >= p.n {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), p.n-p.at)]
	for i := range b {
		b[i] = byte((p.at + int64(i)) * 2654435761 >> 13)
	}
	p.at += int64(len(b))
	return len(b), nil
}

func sum(r io.Reader) (string, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return fmt.Sprintf("%x", h.Sum(nil)), n, err
}

func patternSum(n int64) string {
	s, _, _ := sum(&pattern{n: n})
	return s
}

var errSlow = errors.New("took too long")

// within runs do with a limit, so that a deadlock is a failure and not a hang.
func within(t *testing.T, d time.Duration, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatal(errSlow)
	}
}
