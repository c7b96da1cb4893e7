package l7proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/fairshare"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// h2env is a proxy's HTTP/2 driver on loopback, between a client and backends
// that the test chooses.
type h2env struct {
	t      testing.TB
	proxy  *Proxy
	addr   string
	target *h2target
	tap    *h2recorder
}

// newH2Env starts the driver in front of backends; it checks that nothing of
// it is left at the end of the test.
func newH2Env(t testing.TB, backends ...string) *h2env {
	return newH2EnvWith(t, Limits{IdleTimeout: time.Minute}, backends...)
}

func newH2EnvWith(t testing.TB, limits Limits, backends ...string) *h2env {
	atEnd(t, func() {})
	return startH2Env(t, limits, backends...)
}

// startH2Env is newH2EnvWith without the check, for an env in front of another one,
// which has it.
func startH2Env(t testing.TB, limits Limits, backends ...string) *h2env {
	shares := fairshare.NewContended(3)
	rec := &h2recorder{}
	e := &h2env{t: t, tap: rec, target: &h2target{}}
	for _, b := range backends {
		e.target.backends = append(e.target.backends, netip.MustParseAddrPort(b))
	}
	e.proxy = New(Options{
		Shares: shares,
		Tap:    rec, Log: slog.New(slog.DiscardHandler), Limits: limits,
		Network: &proxytest.Network{}, State: &proxytest.State{Store: state.NewStore("node-1")},
	})
	e.proxy.core.Sampling = loopSampling
	e.proxy.upstream.Connect, e.target.set = e.target.dial, e.proxy.endpoints
	l := proxytest.Listen(t)
	e.addr = l.Addr().String()
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() {
				s := &request.Session{}
				s.Connection = request.Connection{
					Core: &e.proxy.core, ID: e.proxy.ids.Add(1), Client: conn.Plain{Conn: nc}, Target: e.target,
				}
				s.Task.Charge(shares.Account())
				e.proxy.h2.Serve(s)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		e.proxy.lifetime.End()
		e.proxy.h2.CloseAll()
		sessions.Wait()
		e.proxy.endpoints.Wait()
		e.proxy.upstream.Run() // closes what is left
		_ = e.proxy.hangups.Close()
		checkShares(t, shares)
	})
	return e
}

// h2target picks backends in turn.
type h2target struct {
	mu       sync.Mutex
	backends []netip.AddrPort
	set      *endpoints.Set
	balancer *balance.Balancer // of backends, from the first pick on
	client   mesh.Workload
	next     int
	dials    int
	refuse   mesh.Reason
}

func (h *h2target) Pick(a *endpoints.Attempt, q destination.Query) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.refuse != mesh.ReasonNone {
		return mesh.Fail(h.refuse, nil)
	}
	if h.balancer == nil {
		var all []mesh.Endpoint
		for _, addr := range h.backends {
			all = append(all, mesh.Endpoint{Addr: addr, Ready: true})
		}
		h.balancer = balance.New()
		h.balancer.Update(balance.Now(), all, nil, true)
	}
	for range h.backends {
		addr := h.backends[h.next%len(h.backends)]
		h.next++
		if !slices.Contains(q.Exclude, addr) {
			var others []netip.AddrPort
			if len(h.backends) > 1 {
				others = slices.DeleteFunc(slices.Clone(h.backends), func(a netip.AddrPort) bool { return a == addr })
			}
			ticket, _ := h.balancer.Pick(balance.Now(), others...)
			a.Reset()
			a.Endpoint = upstream.Endpoint{Key: upstream.Key{Addr: addr}, Peer: tap.Peer{Addr: addr}, Mode: upstream.MTLS, Client: &h.client}
			a.Expect()
			h.set.Balanced(a, h.balancer, ticket, len(others) > 0)
			return nil
		}
	}
	return mesh.Fail(mesh.ReasonNoEndpoints, nil)
}

func (h *h2target) dial(ctx context.Context, ep *upstream.Endpoint, _ netip.AddrPort, _ string) (conn.Conn, upstream.Result, error) {
	h.mu.Lock()
	h.dials++
	h.mu.Unlock()
	nc, err := (&proxytest.Network{}).Dial(ctx, "", ep.Peer.Addr)
	if err != nil {
		return nil, ep.Expected(), mesh.Fail(mesh.ReasonConnectRefused, err)
	}
	return conn.Plain{Conn: nc}, ep.Expected(), nil
}

func (*h2target) Service() *mesh.Service        { return nil }
func (*h2target) Peer() tap.Peer                { return tap.Peer{} }
func (*h2target) Routing() *destination.Routing { return nil }
func (*h2target) HasRequestRules() bool         { return false }
func (*h2target) Tokens(*tap.Peer, destination.Asker) (*destination.Tokens, *calls.Entry, error) {
	return nil, nil, nil
}
func (*h2target) Asks(*tap.Peer, destination.Asker) *destination.Asks { return nil }
func (*h2target) Refused(*tap.Peer, destination.Asker) *calls.Entry   { return nil }
func (*h2target) Local() *mesh.Workload                               { return nil }
func (*h2target) Opaque() bool                                        { return false }
func (*h2target) Ingress() bool                                       { return false }
func (*h2target) Egress() *destination.Egress                         { return nil }
func (*h2target) Named(_, _ string) (*destination.Named, error) {
	return nil, nil
}

// h2recorder keeps the ends of exchanges.
type h2recorder struct {
	mu           sync.Mutex
	inits, heads int
	ends         []tap.Event
}

func (r *h2recorder) Active() bool { return true }

func (r *h2recorder) Headers() *tap.Redaction { return nil }

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
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); {
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
func serveH2C(t testing.TB, h http.HandlerFunc) (addr string, srv *http.Server) {
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
