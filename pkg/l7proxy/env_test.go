package l7proxy

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/fairshare"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/listener"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/test/ports"
)

// env is a whole proxy on loopback, in front of the backends of a test: each
// has a listener whose connections the proxy takes as outbound ones to it.
type env struct {
	t     testing.TB
	proxy *Proxy
	group listener.Group
	store *state.Store
	tap   *proxytest.Recorder
	local *mesh.Workload
	// network is where the proxy dials.
	network *proxytest.Network
	conns   func() int // connections to backends that are open
	// unread reports whether one of them has bytes that the proxy has not read.
	unread func() bool
}

// checksOf has, for each test, what it checks after all its goroutines have ended.
var checksOf sync.Map // testing.TB → *[]func()

// atEnd fails the test if it ends with goroutines that it did not begin with, and calls check
// afterwards. A test that makes several proxies is looked at once, after all of them have
// ended: goroutines of an earlier one may start after the next one is made.
func atEnd(t testing.TB, check func()) {
	t.Helper()
	if checks, ok := checksOf.Load(t); ok {
		*checks.(*[]func()) = append(*checks.(*[]func()), check)
		return
	}
	checks := &[]func(){check}
	checksOf.Store(t, checks)
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		checksOf.Delete(t)
		goleak.VerifyNone(t, leaks)
		for _, check := range *checks {
			check()
		}
	})
}

func newEnv(t testing.TB) *env {
	t.Helper()
	return newEnvWith(t, Limits{})
}

func newEnvWith(t testing.TB, limits Limits) *env {
	t.Helper()
	return newEnvOn(t, "node-1", limits)
}

// newEnvOn is newEnvWith for a proxy of another node.
func newEnvOn(t testing.TB, node string, limits Limits) *env {
	t.Helper()
	shares := fairshare.NewContended(3)
	var rec *proxytest.Recorder
	atEnd(t, func() {
		checkShares(t, shares)
		checkLegs(t, rec)
	})
	e := &env{
		t: t, store: state.NewStore(node), tap: proxytest.NewRecorder(),
		local: &mesh.Workload{UID: "client", Name: "client", Node: node, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
	}
	rec = e.tap
	e.group.Log = slog.New(slog.DiscardHandler)
	network := &proxytest.Network{}
	e.network, e.conns, e.unread = network, network.Open, network.Unread
	e.proxy = New(Options{Shares: shares, Network: network, State: &proxytest.State{Store: e.store}, Tap: e.tap, Log: e.group.Log, Limits: limits})
	ctx, stop := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { e.proxy.Run(ctx) })
	t.Cleanup(func() { // after the listeners are closed
		e.proxy.Drain()
		cut, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		e.group.Drain(cut)
		stop()
		run.Wait()
	})
	return e
}

// checkShares fails if goroutines that have ended hold slots, or wait for one: each misses
// a Pause.
func checkShares(t testing.TB, shares *fairshare.Scheduler) {
	t.Helper()
	if held, waiting := shares.Busy(); held != 0 || waiting != 0 {
		t.Errorf("at the end %d slots of processors are held, and %d goroutines wait for one; want none", held, waiting)
	}
}

// checkLegs fails if the proxy has reported a connection that carries requests as open, and
// not as closed.
func checkLegs(t testing.TB, rec *proxytest.Recorder) {
	t.Helper()
	var open [tap.ServerSide + 1]int
	for _, e := range rec.Events() {
		switch e.Kind {
		case tap.LegOpen:
			open[e.Side]++
		case tap.LegClose:
			open[e.Side]--
		}
	}
	if open != [tap.ServerSide + 1]int{} {
		t.Errorf("connections of clients that are still reported as open: %d, to servers: %d; want none", open[tap.ClientSide], open[tap.ServerSide])
	}
}

// oneIdle reports whether one connection waits in the pool.
func (e *env) oneIdle() bool {
	return e.proxy.upstream.Stats().IdleHTTP1 == 1
}

// to is the address at which a pod would reach dst: through the proxy.
func (e *env) to(dst string) string {
	e.t.Helper()
	l := proxytest.Listen(e.t)
	e.group.ServeInTurn(l, listener.Manner{}, func(c *rawio.Conn) listener.Rest {
		return e.proxy.ServeOutbound(c, e.local, netip.MustParseAddrPort(dst), "curl")
	})
	return l.Addr().String()
}

// dial is a client's connection to dst by way of the proxy.
func (e *env) dial(dst string) *client { e.t.Helper(); return dialTCP(e.t, e.to(dst)) }

// client is a raw connection with a reader, and a limit on all that a test does
// with it.
type client struct {
	*net.TCPConn
	t testing.TB
	r *bufio.Reader
}

func dialTCP(t testing.TB, addr string) *client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, nc)
}

func newClient(t testing.TB, nc net.Conn) *client {
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() { nc.Close() })
	return &client{TCPConn: nc.(*net.TCPConn), t: t, r: bufio.NewReader(nc)}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.TCPConn, s); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// expect reads exactly s.
func (c *client) expect(s string) {
	c.t.Helper()
	got := make([]byte, len(s))
	n, err := io.ReadFull(c.r, got)
	if d := cmp.Diff(s, string(got[:n])); d != "" {
		c.t.Fatalf("-want +got, then %v:\n%s", err, d)
	}
}

// expectEnd reads the end of the stream: err is nil for a FIN.
func (c *client) expectEnd(want error) {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	if len(rest) > 0 || !is(err, want) {
		c.t.Fatalf("got %q, then %v; want the end with %v", rest, err, want)
	}
}

func is(err, want error) bool {
	if want == nil {
		return err == nil
	}
	return err != nil && strings.Contains(err.Error(), want.Error())
}

// response reads one final response with its body.
func (c *client) response(method string) (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	for err == nil && resp.StatusCode/100 == 1 && resp.StatusCode != 101 {
		resp, err = http.ReadResponse(c.r, &http.Request{Method: method})
	}
	if err != nil {
		c.t.Fatalf("response: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("body after %q: %v", body, err)
	}
	return resp, string(body)
}

// serveConns returns the address of a server on loopback. It calls serve for each
// connection, in a goroutine, and closes the connection afterwards. The end of the test
// waits for all of them.
func serveConns(t testing.TB, serve func(nc net.Conn)) (addr string) {
	t.Helper()
	l := proxytest.Listen(t)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer nc.Close()
				serve(nc)
			})
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return l.Addr().String()
}

// backend is a server that a test plays by hand.
type backend struct {
	t     *testing.T
	l     net.Listener
	addr  string
	conns chan net.Conn
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{t: t, l: l, addr: l.Addr().String(), conns: make(chan net.Conn, 100)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.conns <- c
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return b
}

// accept waits for the proxy's next connection.
func (b *backend) accept() *client {
	b.t.Helper()
	select {
	case c := <-b.conns:
		return newClient(b.t, c)
	case <-time.After(30 * time.Second):
		b.t.Fatal("no connection came to the backend")
		return nil
	}
}

// request waits for the proxy's next connection that carries something: one may
// have been made ahead of the client's first byte, and given up.
func (b *backend) request() *client {
	b.t.Helper()
	for {
		c := b.accept()
		if _, err := c.r.Peek(1); err == nil {
			return c
		}
	}
}

// none fails if a connection has come that carries something.
func (b *backend) none() {
	b.t.Helper()
	for {
		select {
		case nc := <-b.conns:
			if _, err := newClient(b.t, nc).r.Peek(1); err == nil {
				b.t.Fatal("a connection came to the backend")
			}
		default:
			return
		}
	}
}

// nobody is an address at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	return ports.Reserve(t).String()
}
