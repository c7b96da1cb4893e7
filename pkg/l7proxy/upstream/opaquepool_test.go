package upstream

import (
	"context"
	"io"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mtls"
)

// opaqueClient is a client without limits.
type opaqueClient struct{}

func (opaqueClient) ClientAddr() netip.AddrPort { return netip.MustParseAddrPort("10.0.0.1:40000") }
func (opaqueClient) Usage() *quota.Usage        { return nil }
func (opaqueClient) KeepsConnections() bool     { return false }
func (opaqueClient) ConnectionEnded()           {}

// opaquePeers answers the dials of p as agents that echo opaque streams, and returns how many
// there were. wrap, if it is not nil, gets the server's end of each.
func opaquePeers(t *testing.T, p *opaquePool, wrap func(dial int, c *conn.Secure) conn.Conn) *int {
	var running sync.WaitGroup
	var closers []func() error
	dials := new(int)
	p.connect = func(context.Context, *Endpoint) (conn.Conn, Result, error) {
		*dials++
		here, there, _ := proxytest.TLSPair(t, mtls.ALPNStreams)
		closers = append(closers, there.Close)
		nc := conn.Conn(there)
		if wrap != nil {
			nc = wrap(*dials, there)
		}
		running.Go(func() {
			c := mux.NewServer(mux.Opaque, nc, nil, func(s *mux.Stream) { s.Accept(); running.Go(func() { echo(s) }) })
			_ = c.Run(nil)
			c.End()
		})
		return here, Result{ALPN: mtls.ALPNStreams}, nil
	}
	t.Cleanup(func() {
		p.drain()
		for _, c := range closers {
			_ = c()
		}
		running.Wait()
	})
	return dials
}

// TestSilentAgentGetsNoStream: a connection whose other end does not accept a stream, and is not
// heard, is not used: another one is made.
func TestSilentAgentGetsNoStream(t *testing.T) {
	pool := newPool(t, nil)
	pool.Limits.HandshakeSilence = 100 * time.Millisecond
	p := &pool.opaque
	hung := make(chan struct{})
	dials := opaquePeers(t, p, func(dial int, c *conn.Secure) conn.Conn {
		if dial == 1 {
			return &hanging{Secure: c, hangs: hung}
		}
		return c
	})
	ep := &Endpoint{Key: Key{Source: "a"}}
	for i, dialled := range []int{1, 1, 2} {
		if i == 2 {
			close(hung)
		}
		c, _, err := p.stream(t.Context(), ep, opaqueClient{})
		if err != nil || c == nil {
			t.Fatalf("stream %d: %v, %v", i, c, err)
		}
		hello(t, c)
		c.Close()
		if *dials != dialled {
			t.Errorf("stream %d: %d connections were made, want %d", i, *dials, dialled)
		}
	}
}

// TestSilentAgentIsAwaitedOnce: if several connections lead to an agent that is not heard, one of
// them is waited for.
func TestSilentAgentIsAwaitedOnce(t *testing.T) {
	pool := newPool(t, nil)
	pool.Limits.HandshakeSilence = 500 * time.Millisecond
	p := &pool.opaque
	hung := make(chan struct{})
	const shared = 3
	dials := opaquePeers(t, p, func(dial int, c *conn.Secure) conn.Conn {
		if dial <= shared {
			return &hanging{Secure: c, hangs: hung}
		}
		return c
	})
	ep := &Endpoint{Key: Key{Source: "a"}}
	var open []conn.Conn
	for range mux.MaxStreams*(shared-1) + 1 {
		c, _, err := p.stream(t.Context(), ep, opaqueClient{})
		if err != nil || c == nil {
			t.Fatalf("%v, %v", c, err)
		}
		open = append(open, c)
	}
	for _, i := range []int{0, mux.MaxStreams} { // room for one on each
		_ = open[i].Reset()
	}
	close(hung)
	began := time.Now()
	c, _, err := p.stream(t.Context(), ep, opaqueClient{})
	took := time.Since(began)
	if err != nil || c == nil {
		t.Fatalf("%v, %v", c, err)
	}
	hello(t, c)
	c.Close()
	if limit := pool.Limits.HandshakeSilence; took < limit || took > 2*limit || *dials != shared+1 {
		t.Errorf("got a stream after %v and %d connections, want it after %v and %d", took, *dials, limit, shared+1)
	}
	for _, c := range open {
		_ = c.Reset()
	}
}

// TestSharedConnectionAges: a connection gets no further stream when it is old, because the
// network may not let another one be made any more. Its streams go on.
func TestSharedConnectionAges(t *testing.T) {
	p := &newPool(t, nil).opaque
	dials := opaquePeers(t, p, nil)
	ep := &Endpoint{Key: Key{Source: "a"}}
	var open []conn.Conn
	for i, dialled := range []int{1, 1, 2, 2} {
		if i == 2 {
			old := p.conns[ep.Key][0]
			p.age = func(c *mux.Conn) time.Duration {
				if c == old {
					return shareFor + 1
				}
				return shareFor
			}
			if p.has(ep.Key) {
				t.Error("there is a connection for further streams, want none")
			}
		}
		c, _, err := p.stream(t.Context(), ep, opaqueClient{})
		if err != nil || c == nil {
			t.Fatalf("stream %d: %v, %v", i, c, err)
		}
		open = append(open, c)
		if *dials != dialled {
			t.Errorf("stream %d: %d connections were made, want %d", i, *dials, dialled)
		}
	}
	for _, c := range open {
		hello(t, c)
		c.Close()
	}
	proxytest.Eventually(t, "the old one has ended", func() bool { conns, _ := p.stats(); return conns == 1 })
}

// TestAgentThatEndsSharedConnections: an agent that ends each shared connection at once is not
// tried for ever.
func TestAgentThatEndsSharedConnections(t *testing.T) {
	p := &newPool(t, nil).opaque
	dials := 0
	p.connect = func(context.Context, *Endpoint) (conn.Conn, Result, error) {
		dials++
		here, there, _ := proxytest.TLSPair(t, mtls.ALPNStreams)
		_ = there.Reset()
		return here, Result{ALPN: mtls.ALPNStreams}, nil
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 3 {
			c, _, err := p.stream(t.Context(), &Endpoint{Key: Key{Source: "a"}}, opaqueClient{})
			if err != nil {
				t.Error(err)
			}
			if c != nil { // its end was not seen yet
				c.Close()
			}
		}
	}()
	<-ended
	if most := 3 * streamTries * muxTries; dials > most {
		t.Errorf("%d connections were made, want at most %d", dials, most)
	}
	proxytest.Eventually(t, "none is left", func() bool { conns, _ := p.stats(); return conns == 0 })
}

// hanging is a connection whose reader gets nothing any more when hangs is closed.
type hanging struct {
	*conn.Secure
	hangs chan struct{}
}

func (h *hanging) Read(p []byte) (int, error) {
	n, err := h.Secure.Read(p)
	select {
	case <-h.hangs:
		if err == nil {
			_, _ = io.Copy(io.Discard, h.Secure)
		}
		return 0, io.ErrUnexpectedEOF
	default:
		return n, err
	}
}

// TestOldAgentsConnectionIsUsed: an agent that does not know streams has agreed to a dedicated
// connection, which one of the callers gets. The others make their own, and it is not asked
// again for a moment.
func TestOldAgentsConnectionIsUsed(t *testing.T) {
	p := &newPool(t, nil).opaque
	made := make(chan conn.Conn, 10)
	p.connect = func(context.Context, *Endpoint) (conn.Conn, Result, error) {
		here, there, _ := proxytest.TLSPair(t, mtls.ALPNTCP)
		t.Cleanup(func() { there.Close() })
		made <- here
		return here, Result{ALPN: mtls.ALPNTCP}, nil
	}
	ep := &Endpoint{Key: Key{Source: "a"}}
	got, result, err := p.stream(t.Context(), ep, opaqueClient{})
	if err != nil || result.ALPN != mtls.ALPNTCP || got != <-made {
		t.Fatalf("got %v of %q and %v, want the connection that was made", got, result.ALPN, err)
	}
	got.Close()
	if c, _, err := p.stream(t.Context(), ep, opaqueClient{}); c != nil || err != nil || len(made) != 0 {
		t.Errorf("got %v and %v, want nothing", c, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	other := &Endpoint{Key: Key{Source: "b"}}
	for range 20 { // the caller may be gone before the connection is made, or after
		clear(p.unsupportedUntil)
		if c, _, _ := p.stream(gone, other, opaqueClient{}); c != nil {
			c.Close()
		}
		left := <-made
		proxytest.Eventually(t, "the connection is closed", func() bool { _, gone := left.PeerClosed(); return gone })
	}
}

func TestOpaqueUses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u opaqueUses
		none := func(Key) bool { return false }
		some := func(Key) bool { return true }
		key := Key{Source: "a"}
		expect := func(want bool, open func(Key) bool, what string) {
			t.Helper()
			if got := u.shares(key, open); got != want {
				t.Errorf("%s: shared %v, want %v", what, got, want)
			}
		}
		expect(false, none, "the first one")
		expect(false, none, "the next one, before any has ended")
		many := Key{Source: "b"}
		for i := range 2 * sharedFrom {
			if got, want := u.shares(many, none), i >= sharedFrom; got != want {
				t.Errorf("one while %d are open: shared %v, want %v", i, got, want)
			}
		}
		for range sharedAfter {
			expect(false, none, "one while few have ended")
			u.carried(key, 1000)
		}
		expect(true, none, "one after that")
		u.dialled(key, mtls.ALPNTCP)
		expect(false, some, "one after an agent has shown that it supports none")
		u.dialled(key, mtls.ALPNTCPAlone)
		expect(true, none, "one after its upgrade")
		time.Sleep(shareWithin)
		expect(false, none, "one after a while")
		time.Sleep(shareWithin)
		expect(true, some, "one after a while, where there is a shared connection")
		u.carried(key, 1<<40)
		expect(true, some, "after a large one among small ones")
		for range averageOver {
			u.carried(key, 1<<40)
		}
		expect(false, some, "after large ones")
		n := 0
		for ; !u.shares(key, some) && n < 1000; n++ {
			u.carried(key, 1000)
		}
		if n == 0 || n > averageOver {
			t.Errorf("shared again after %d small ones, want a few", n)
		}
		for i := range 2 * usesMost {
			u.shares(Key{Session: uint32(i)}, none)
		}
		if n := len(u.byKey); n > usesMost {
			t.Errorf("%d endpoints are remembered, want at most %d", n, usesMost)
		}
		time.Sleep(usesMemory + time.Second)
		u.forget()
		if len(u.byKey) != 0 {
			t.Errorf("%d endpoints are remembered, want none", len(u.byKey))
		}
	})
}
