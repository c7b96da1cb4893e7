package l7proxy

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// muxPair is a client's end of a shared connection whose other end serve has.
func muxPair(t *testing.T, serve func(*rawio.Conn)) *mux.Conn {
	t.Helper()
	a, b := proxytest.Pair(t)
	for _, c := range []*rawio.Conn{a, b} {
		_ = c.SetDeadline(time.Now().Add(time.Minute))
	}
	var running sync.WaitGroup
	client := mux.NewClient(mux.HTTP1, conn.Plain{Conn: a}, nil, nil)
	running.Go(func() { serve(b) })
	running.Go(func() {
		_ = client.Run(nil)
		client.End()
	})
	t.Cleanup(func() {
		a.Close()
		running.Wait()
	})
	return client
}

// servedMux is a shared connection from another agent to a pod at dst.
func servedMux(t *testing.T, e *env, dst string, from quota.Source) *mux.Conn {
	t.Helper()
	return muxPair(t, func(c *rawio.Conn) {
		target := e.proxy.directory.Inbound(e.local, netip.MustParseAddrPort(dst), false)
		s := &session{proxy: e.proxy, raw: c, inbound: target}
		s.Connection = request.Connection{
			Core: &e.proxy.core, ID: e.proxy.ids.Add(1), Client: conn.Plain{Conn: c}, Direction: mesh.Inbound,
			Source: tap.Peer{Addr: c.Remote()}, Original: netip.MustParseAddrPort(dst), TLS: tap.TLSTrue, Target: target, From: from,
		}
		if e.proxy.enter(&s.Session, e.local, connDescriptors) {
			s.serveMux(mux.HTTP1, serveHTTP1)
			s.Quota.Leave()
		}
	})
}

// openStream opens a stream and writes p, with which the opening goes out.
func openStream(t *testing.T, c *mux.Conn, p string) *mux.Stream {
	t.Helper()
	s := c.Open()
	if s == nil {
		t.Fatal("no stream")
	}
	if _, err := io.WriteString(s, p); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestMuxStreamsThatEndLate: a peer that resets its streams faster than their service ends
// has no more of them served at a time than servedMost, and what it opens then is served
// when others have ended.
func TestMuxStreamsThatEndLate(t *testing.T) {
	var serving, most atomic.Int64
	release := make(chan struct{})
	client := muxPair(t, func(c *rawio.Conn) {
		line := &streamLine{serve: func(s *mux.Stream) *servedStream {
			defer s.Close()
			if n := serving.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer serving.Add(-1)
			<-release
			_, _ = io.CopyN(s, struct{ io.Reader }{s}, 1)
			return nil
		}}
		server := mux.NewServer(mux.HTTP1, conn.Plain{Conn: c}, nil, line.add)
		_ = server.Run(nil)
		line.end()
		server.End()
	})
	for range 20 * servedMost {
		_ = openStream(t, client, "x").Reset()
	}
	last := openStream(t, client, "y")
	proxytest.Eventually(t, "as many streams are served as may be", func() bool { return serving.Load() == servedMost })
	close(release)
	got := make([]byte, 1)
	if _, err := io.ReadFull(last, got); err != nil || got[0] != 'y' {
		t.Errorf("the stream that was not reset: got %q and %v, want \"y\"", got, err)
	}
	if most.Load() > servedMost {
		t.Errorf("%d streams were served at a time, want at most %d", most.Load(), servedMost)
	}
}

// TestMuxResetsArePaced: a peer that opens and resets streams is read at the rate of
// quota.Paces, and is not cut.
func TestMuxResetsArePaced(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	from := quota.ClientSource(netip.MustParseAddr("10.0.0.1"), mesh.Identity{Namespace: "a"})
	client := servedMux(t, e, b.addr, from)
	const streams, owed = 10, time.Second
	began, now := time.Now(), balance.Now()
	e.proxy.core.Paces.Add(from, now, 2*(quota.VainBurst+int(owed.Seconds())*quota.VainRate))
	for range streams {
		_ = openStream(t, client, "G").Reset()
	}
	proxytest.Eventually(t, "a reset is counted", func() bool { return e.proxy.LimitHits()["http2-resets"] > 0 })
	s := openStream(t, client, get)
	defer s.Close()
	srv := b.request()
	srv.expect(get)
	srv.send(okAnswer)
	if _, err := io.ReadFull(s, make([]byte, len(okAnswer))); err != nil {
		t.Errorf("the next request: got %v, want an answer", err)
	}
	if took := time.Since(began); took < owed {
		t.Errorf("the peer was read after %v, want at least %v", took, owed)
	}
	if got := e.proxy.LimitHits()["http2-flood"]; got != 0 {
		t.Errorf("got %d peers sent away, want 0", got)
	}
}

// TestSilentStreamMemory: a stream on which nothing came holds no buffer.
func TestSilentStreamMemory(t *testing.T) {
	const budget = memoryFactor * 16 << 10
	e, b := newEnv(t), newBackend(t)
	client := servedMux(t, e, b.addr, quota.ClientSource(netip.MustParseAddr("10.0.0.1"), mesh.Identity{Namespace: "a"}))
	key := quota.Key{UID: e.local.UID, Direction: mesh.Inbound}
	before := memoryInUse()
	for range mux.MaxStreams {
		client.Open()
	}
	client.Send() // the openings would go out with the first bytes
	proxytest.Eventually(t, "all are served", func() bool { n, _ := e.proxy.pods.Of(key); return n == 1+mux.MaxStreams })
	if each := (memoryInUse() - before) / mux.MaxStreams; each > budget {
		t.Errorf("got %d bytes for each silent stream, want at most %d", each, budget)
	}
}

// TestMuxBuffer: where far too many bytes of a pod wait, the streams for which more come are
// cut.
func TestMuxBuffer(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	e.proxy.pods.MaxBuffered = 512 << 10
	client := servedMux(t, e, b.addr, quota.ClientSource(netip.MustParseAddr("10.0.0.1"), mesh.Identity{Namespace: "a"}))
	var cut atomic.Int64
	var sending sync.WaitGroup
	for range 32 {
		s := openStream(t, client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
		_ = s.SetWriteDeadline(time.Now().Add(5 * time.Second))
		sending.Go(func() {
			defer s.Close()
			for {
				if _, err := s.Write(make([]byte, 64<<10)); err != nil {
					if !errors.Is(err, os.ErrDeadlineExceeded) {
						cut.Add(1)
					}
					return
				}
			}
		})
	}
	proxytest.Eventually(t, "streams are cut", func() bool { return e.proxy.LimitHits()["pod-buffer-ended"] > 0 })
	sending.Wait()
	if cut.Load() == 0 {
		t.Error("no stream was cut for its client, want some")
	}
	if _, held := e.proxy.pods.Of(quota.Key{UID: e.local.UID, Direction: mesh.Inbound}); held > 3<<19 {
		t.Errorf("%d bytes wait, want at most %d", held, 3<<19)
	}
}
