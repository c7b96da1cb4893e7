package upstream

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/lifetime"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mtls"
)

// muxPeers makes connections to agents that answer with alpn.
type muxPeers struct {
	t       *testing.T
	alpn    string
	dials   atomic.Int32
	running sync.WaitGroup
	life    *lifetime.Lifetime
	served  *lifetime.Group[*mux.Conn]
}

func newMuxPeers(t *testing.T, alpn string) (*muxPool, *muxPeers) {
	peers := &muxPeers{t: t, alpn: alpn}
	peers.again()
	p := &newPool(t, nil).mux
	p.connect = peers.dial
	t.Cleanup(func() {
		p.drain()
		peers.served.Each(func(c *mux.Conn) { c.NC.Close() })
		peers.running.Wait()
	})
	return p, peers
}

// again has further connections be served as by an agent that does not drain.
func (p *muxPeers) again() {
	p.life = lifetime.New()
	p.served = lifetime.NewGroup(p.life.Retiring, func(c *mux.Conn) { c.Drain() })
}

func (p *muxPeers) dial(context.Context, *Endpoint) (conn.Conn, Result, error) {
	p.dials.Add(1)
	here, there, _ := proxytest.TLSPair(p.t, p.alpn)
	served := p.served
	p.running.Go(func() {
		if p.alpn != mtls.ALPNMux {
			_, _ = io.Copy(there, there)
			there.Close()
			return
		}
		var streams sync.WaitGroup
		c := mux.NewServer(mux.HTTP1, there, nil, func(s *mux.Stream) { streams.Go(func() { echo(s) }) })
		served.Enter(c)
		defer served.Leave(c)
		_ = c.Run(nil)
		streams.Wait()
		c.End()
	})
	return here, Result{ALPN: p.alpn}, nil
}

func echo(s *mux.Stream) {
	_, _ = io.Copy(struct{ io.Writer }{s}, struct{ io.Reader }{s})
	s.Close()
}

func hello(t *testing.T, c conn.Conn) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Error(err)
	}
}

// Whoever comes at once shares as few connections as have room for them.
func TestMuxShare(t *testing.T) {
	p, peers := newMuxPeers(t, mtls.ALPNMux)
	var clients, there sync.WaitGroup
	there.Add(3 * mux.MaxStreams)
	for range 3 * mux.MaxStreams {
		clients.Go(func() {
			s, err := p.stream(t.Context(), new(Endpoint), nil)
			there.Done()
			if err != nil || s == nil {
				t.Errorf("%v, %v", s, err)
				return
			}
			there.Wait()
			hello(t, s)
			s.Close()
		})
	}
	clients.Wait()
	if n := peers.dials.Load(); n != 3 {
		t.Errorf("%d connections for %d streams", n, 3*mux.MaxStreams)
	}
	if s, _ := p.stream(t.Context(), &Endpoint{Key: Key{Source: "another"}}, nil); s == nil || peers.dials.Load() != 4 {
		t.Error("another client's streams are on the same connection")
	}
}

// A peer that shares none is asked once, and again after a while.
func TestMuxUnsupported(t *testing.T) {
	p, peers := newMuxPeers(t, mtls.ALPNHTTP1)
	for range 3 {
		if s, err := p.stream(t.Context(), new(Endpoint), nil); s != nil || err != nil {
			t.Fatalf("%v, %v from a peer that shares none", s, err)
		}
	}
	if n := peers.dials.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	p.owner.dedicated.n = map[Key]int{{}: muxFrom}
	if p.shares(Key{}) {
		t.Error("it counts as one that shares")
	}
	p.unsupportedUntil[Key{}] = time.Now()
	if _, err := p.stream(t.Context(), new(Endpoint), nil); err != nil || peers.dials.Load() != 2 {
		t.Error("it is never asked again")
	}
}

// A failed dial fails all who wait for it, and none who come later; who cannot
// wait leaves the others theirs.
func TestMuxDialFails(t *testing.T) {
	p, peers := newMuxPeers(t, mtls.ALPNMux)
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("refused")
		dials := 0 // one at a time
		release := make(chan struct{})
		p.connect = func(context.Context, *Endpoint) (conn.Conn, Result, error) {
			dials++
			<-release
			return nil, Result{}, refused
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.stream(ctx, new(Endpoint), nil); !errors.Is(err, context.Canceled) {
			t.Errorf("who cannot wait: %v", err)
		}
		var waiters sync.WaitGroup
		for range 5 {
			waiters.Go(func() {
				if _, err := p.stream(t.Context(), new(Endpoint), nil); err != refused {
					t.Errorf("who waits: %v", err)
				}
			})
		}
		synctest.Wait()
		close(release)
		waiters.Wait()
		if dials != 1 {
			t.Errorf("%d dials for all who wait at the same time", dials)
		}
	})
	p.connect = peers.dial
	s, err := p.stream(t.Context(), new(Endpoint), nil)
	if err != nil {
		t.Fatal(err)
	}
	hello(t, s)
}

// A burst has one dial for each mux.MaxStreams callers, and each caller has a stream when its
// dial is done. One that has given up leaves no stream open.
func TestMuxBurst(t *testing.T) {
	p, peers := newMuxPeers(t, mtls.ALPNMux)
	const callers = 4*mux.MaxStreams + 1
	release := make(chan struct{})
	p.connect = func(ctx context.Context, ep *Endpoint) (conn.Conn, Result, error) {
		<-release
		return peers.dial(ctx, ep)
	}
	ctx, leave := context.WithCancel(t.Context())
	var waiters sync.WaitGroup
	for i := range callers {
		ctx := ctx
		if i%2 == 0 {
			ctx = t.Context()
		}
		waiters.Go(func() {
			s, err := p.stream(ctx, new(Endpoint), nil)
			switch {
			case ctx.Err() != nil:
				if s != nil || err == nil {
					t.Errorf("who has given up: %v, %v", s, err)
				}
			case err != nil || s == nil:
				t.Errorf("%v, %v", s, err)
			default:
				hello(t, s)
				s.Close()
			}
		})
	}
	waiting := func() (n int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, d := range p.dials[Key{}] {
			for _, w := range d.waiters {
				if !w.gone {
					n++
				}
			}
		}
		return n
	}
	proxytest.Eventually(t, "all to wait", func() bool { return waiting() == callers })
	leave()
	proxytest.Eventually(t, "half of them to leave", func() bool { return waiting() == (callers+1)/2 })
	close(release)
	waiters.Wait()
	if n := peers.dials.Load(); n != 5 {
		t.Errorf("%d dials for %d callers, want 5", n, callers)
	}
	proxytest.Eventually(t, "no stream to be open", func() bool { p.closeIdle(0); p.mu.Lock(); defer p.mu.Unlock(); return p.total == 0 })
}

// A connection whose peer drains gets no further stream, and its streams go on;
// one without streams is closed.
func TestMuxDrainAndIdle(t *testing.T) {
	p, peers := newMuxPeers(t, mtls.ALPNMux)
	s, err := p.stream(t.Context(), new(Endpoint), nil)
	if err != nil {
		t.Fatal(err)
	}
	hello(t, s)
	peers.life.Retire()
	known := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.conns[Key{}])
	}
	proxytest.Eventually(t, "the drain to be known", func() bool { return known() == 0 })
	hello(t, s)
	s.Close()

	peers.again() // another agent has come
	s, err = p.stream(t.Context(), new(Endpoint), nil)
	if err != nil || peers.dials.Load() != 2 {
		t.Fatalf("%v, %d dials", err, peers.dials.Load())
	}
	p.closeIdle(0)
	if known() != 1 {
		t.Error("a connection is closed that has a stream")
	}
	hello(t, s)
	s.Close()
	proxytest.Eventually(t, "the idle connection to be closed", func() bool { p.closeIdle(0); return known() == 0 })
	peers.running.Wait()
}

// A peer that drains for good is left alone in the end.
func TestMuxPeerDrains(t *testing.T) {
	p, peers := newMuxPeers(t, mtls.ALPNMux)
	peers.life.Retire()
	for range 3 {
		s, err := p.stream(t.Context(), new(Endpoint), nil)
		if err != nil {
			t.Fatal(err)
		}
		if s == nil {
			break
		}
		s.Close() // it was quicker than the peer
	}
	if n := peers.dials.Load(); n > 3*muxTries {
		t.Errorf("%d dials", n)
	}
}

// A few connections are not shared, however many are made at once.
func TestMuxReserve(t *testing.T) {
	p := &newPool(t, nil).mux
	for i := range muxFrom {
		if !p.reserve(Key{}) {
			t.Fatalf("connection %d is to be shared", i)
		}
	}
	if p.reserve(Key{}) || !p.shares(Key{}) {
		t.Error("all have one of their own")
	}
	p.release(Key{})
	if p.shares(Key{}) {
		t.Error("the place of one that is gone stays taken")
	}
	p.owner.dedicated.enter(Key{})
	if !p.shares(Key{}) {
		t.Error("what is made does not count")
	}
}
