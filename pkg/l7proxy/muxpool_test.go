package l7proxy

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mtls"
)

// muxPeers makes connections to agents that answer with alpn.
type muxPeers struct {
	t       *testing.T
	alpn    string
	dials   atomic.Int32
	running sync.WaitGroup
	served  muxes
}

func newMuxPeers(t *testing.T, alpn string) (*muxes, *muxPeers) {
	peers := &muxPeers{t: t, alpn: alpn}
	p := new(muxes)
	p.init()
	peers.served.init()
	t.Cleanup(func() {
		p.closeAll()
		peers.served.closeAll()
		peers.running.Wait()
	})
	return p, peers
}

func (p *muxPeers) dial(context.Context) (Conn, error) {
	p.dials.Add(1)
	client, server, _ := tlsPair(p.t, p.alpn)
	there := secure(server, server.NetConn().(*transport))
	p.running.Go(func() {
		if p.alpn != mtls.ALPNMux {
			_, _ = io.Copy(there, there)
			there.Close()
			return
		}
		var streams sync.WaitGroup
		m := newMux(there, http2.Server, func(s *muxStream) { streams.Go(func() { echo(s) }) })
		p.served.enter(m)
		defer p.served.leave(m)
		_ = m.run(nil)
		streams.Wait()
		m.end()
	})
	return secure(client, client.NetConn().(*transport)), nil
}

func hello(t *testing.T, c Conn) {
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
func TestMuxesShare(t *testing.T) {
	p, peers := newMuxPeers(t, mtls.ALPNMux)
	var clients, there sync.WaitGroup
	there.Add(3 * muxStreams)
	for range 3 * muxStreams {
		clients.Go(func() {
			s, err := p.stream(t.Context(), PoolKey{}, peers.dial)
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
		t.Errorf("%d connections for %d streams", n, 3*muxStreams)
	}
	if s, _ := p.stream(t.Context(), PoolKey{Source: "another"}, peers.dial); s == nil || peers.dials.Load() != 4 {
		t.Error("another client's streams are on the same connection")
	}
}

// A peer that shares none is asked once, and again after a while.
func TestMuxesAlone(t *testing.T) {
	p, peers := newMuxPeers(t, mtls.ALPNHTTP1)
	for range 3 {
		if s, err := p.stream(t.Context(), PoolKey{}, peers.dial); s != nil || err != nil {
			t.Fatalf("%v, %v from a peer that shares none", s, err)
		}
	}
	if n := peers.dials.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	if p.shares(PoolKey{}, &watchedConns{http1: map[PoolKey]int{{}: muxFrom}}) {
		t.Error("it counts as one that shares")
	}
	p.alone[PoolKey{}] = time.Now()
	if _, err := p.stream(t.Context(), PoolKey{}, peers.dial); err != nil || peers.dials.Load() != 2 {
		t.Error("it is never asked again")
	}
}

// A failed dial fails all who wait for it, and none who come later; who cannot
// wait leaves the others theirs.
func TestMuxesDialFails(t *testing.T) {
	p, peers := newMuxPeers(t, mtls.ALPNMux)
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("refused")
		dials := 0 // one at a time
		release := make(chan struct{})
		refuse := func(context.Context) (Conn, error) {
			dials++
			<-release
			return nil, refused
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.stream(ctx, PoolKey{}, refuse); !errors.Is(err, context.Canceled) {
			t.Errorf("who cannot wait: %v", err)
		}
		var waiters sync.WaitGroup
		for range 5 {
			waiters.Go(func() {
				if _, err := p.stream(t.Context(), PoolKey{}, refuse); err != refused {
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
	s, err := p.stream(t.Context(), PoolKey{}, peers.dial)
	if err != nil {
		t.Fatal(err)
	}
	hello(t, s)
}

// A connection whose peer drains gets no further stream, and its streams go on;
// one without streams is closed.
func TestMuxesDrainAndIdle(t *testing.T) {
	p, peers := newMuxPeers(t, mtls.ALPNMux)
	s, err := p.stream(t.Context(), PoolKey{}, peers.dial)
	if err != nil {
		t.Fatal(err)
	}
	hello(t, s)
	peers.served.drain()
	known := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.conns[PoolKey{}])
	}
	eventually(t, "the drain to be known", func() bool { return known() == 0 })
	hello(t, s)
	s.Close()

	peers.served.mu.Lock()
	peers.served.ending = false // another agent has come
	peers.served.mu.Unlock()
	s, err = p.stream(t.Context(), PoolKey{}, peers.dial)
	if err != nil || peers.dials.Load() != 2 {
		t.Fatalf("%v, %d dials", err, peers.dials.Load())
	}
	p.closeIdle(0)
	if known() != 1 {
		t.Error("a connection is closed that has a stream")
	}
	hello(t, s)
	s.Close()
	eventually(t, "the idle connection to be closed", func() bool { p.closeIdle(0); return known() == 0 })
	peers.running.Wait()
}

// A peer that drains for good is left alone in the end.
func TestMuxesPeerDrains(t *testing.T) {
	p, peers := newMuxPeers(t, mtls.ALPNMux)
	peers.served.drain()
	for range 3 {
		s, err := p.stream(t.Context(), PoolKey{}, peers.dial)
		if err != nil {
			t.Fatal(err)
		}
		if s == nil {
			break
		}
		s.Close() // it was quicker than the peer
	}
	if n := peers.dials.Load(); n > 3*muxConnsPerKey {
		t.Errorf("%d dials", n)
	}
}

// A few connections are not shared, however many are made at once.
func TestMuxesReserve(t *testing.T) {
	var p muxes
	p.init()
	var made watchedConns
	for i := range muxFrom {
		if !p.reserve(PoolKey{}, &made) {
			t.Fatalf("connection %d is to be shared", i)
		}
	}
	if p.reserve(PoolKey{}, &made) || !p.shares(PoolKey{}, &made) {
		t.Error("all have one of their own")
	}
	p.reserved(PoolKey{})
	if p.shares(PoolKey{}, &made) {
		t.Error("the place of one that is gone stays taken")
	}
	made.add(&watched{choice: Choice{Key: PoolKey{}}, http1: true})
	if !p.shares(PoolKey{}, &made) {
		t.Error("what is made does not count")
	}
}
