package l7proxy

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/underlane/underlane/pkg/l7proxy/h2"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
)

// gatedBackend is a grpc-go server that takes so many streams on a connection, and
// answers no call before open is closed.
func gatedBackend(t *testing.T, streams uint32, open <-chan struct{}) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.MaxConcurrentStreams(streams), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		m := new(wrapperspb.BytesValue)
		if err := s.RecvMsg(m); err != nil {
			return err
		}
		select {
		case <-open:
			return s.SendMsg(m)
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}))
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() { srv.Stop(); serving.Wait() })
	return l.Addr().String()
}

// calls makes so many calls at once, on connections of 200 each, and returns a function
// that waits for their errors.
func (e *h2env) calls(ctx context.Context, n int) (results func() []error) {
	e.t.Helper()
	errs := make([]error, n)
	var calling sync.WaitGroup
	var cc *grpc.ClientConn
	for i := range n {
		if i%200 == 0 {
			cc = e.grpcClient()
		}
		cc := cc
		calling.Go(func() {
			errs[i] = cc.Invoke(ctx, "/t.T/Echo", wrapperspb.Bytes([]byte("hello")), new(wrapperspb.BytesValue))
		})
	}
	return func() []error { calling.Wait(); return errs }
}

func succeeded(t *testing.T, errs []error) {
	t.Helper()
	failed := map[string]int{}
	for _, err := range errs {
		if err != nil {
			failed[err.Error()]++
		}
	}
	if len(failed) > 0 {
		t.Errorf("of %d calls got errors %v, want none", len(errs), failed)
	}
}

// TestH2FewStreams: where a server takes few streams at a time, calls wait for one as
// they would in the client, however many they are.
func TestH2FewStreams(t *testing.T) {
	open := make(chan struct{})
	close(open)
	for _, streams := range []uint32{1, 20, 1000} {
		t.Run(fmt.Sprint(streams), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			e := newH2Env(t, gatedBackend(t, streams, open))
			for range 3 {
				succeeded(t, e.calls(ctx, 300)())
			}
			if got := e.proxy.upstream.Stats().WaitingHTTP2; got != 0 {
				t.Errorf("got %d waiting requests at the end, want 0", got)
			}
			t.Logf("%d connections", e.proxy.upstream.Stats().HTTP2)
		})
	}
}

// TestH2StreamsBound: all connections that an endpoint may have are busy. So many calls
// wait, in their order, one more is refused and counted, and those that are given up
// make room.
func TestH2StreamsBound(t *testing.T) {
	const conns, most = 64, 1000
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	open := make(chan struct{})
	e := newH2Env(t, gatedBackend(t, 1, open))
	waiting := func(want int) func() bool {
		return func() bool {
			s := e.proxy.upstream.Stats()
			return s.HTTP2 == conns && s.WaitingHTTP2 == want
		}
	}
	first := e.calls(ctx, conns+10)
	proxytest.Eventually(t, "64 connections, and 10 calls that wait", waiting(10))
	given, giveUp := context.WithCancel(ctx)
	second := e.calls(given, most-10)
	proxytest.Eventually(t, "1,000 calls wait", waiting(most))
	err := e.calls(ctx, 1)()[0]
	if got := status.Code(err); got != codes.ResourceExhausted {
		t.Errorf("one call more: got %v, want %v", err, codes.ResourceExhausted)
	}
	if got := e.proxy.LimitHits()["endpoint-connections"]; got != 1 {
		t.Errorf("got %d hits counted, want 1", got)
	}
	giveUp()
	for _, err := range second() {
		if got := status.Code(err); got != codes.Canceled {
			t.Fatalf("a call that was given up: got %v, want %v", err, codes.Canceled)
		}
	}
	proxytest.Eventually(t, "10 calls wait", waiting(10))
	third := e.calls(ctx, 50)
	close(open)
	succeeded(t, first())
	succeeded(t, third())
}

// TestH2WaitersInOrder: streams go to those that have waited longest, also when the
// server allows more at a time.
func TestH2WaitersInOrder(t *testing.T) {
	b := newBackend(t)
	e := newH2Env(t, b.addr)
	c := dialFrames(t, e.addr)
	ask := func(n uint32) {
		c.headers(2*n+1, true, ":method", "GET", ":scheme", "http", ":path", fmt.Sprintf("/%d", n), ":authority", "a")
	}
	ask(0)
	s := serveFrames(b.accept(), xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 1})
	saw := func(id uint32, n int) {
		t.Helper()
		s.want(fmt.Sprintf("HEADERS %d :method=GET :scheme=http :path=/%d :authority=a END", id, n))
	}
	saw(1, 0)
	b.l.Close() // there will be no other connection
	for n := range uint32(6) {
		ask(n + 1)
	}
	proxytest.Eventually(t, "six requests wait", func() bool { return e.proxy.upstream.Stats().WaitingHTTP2 == 6 })
	s.headers(1, true, ":status", "204")
	saw(3, 1)
	s.must(s.fr.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 3}))
	saw(5, 2)
	saw(7, 3)
	s.must(s.fr.WriteRSTStream(5, xhttp2.ErrCodeCancel))
	saw(9, 4)
	c.must(c.fr.WriteRSTStream(2*3+1, xhttp2.ErrCodeCancel))
	s.want("RST_STREAM 7 CANCEL")
	saw(11, 5)
	// One is given up that waits.
	c.must(c.fr.WriteRSTStream(2*6+1, xhttp2.ErrCodeCancel))
	proxytest.Eventually(t, "no request waits", func() bool { return e.proxy.upstream.Stats().WaitingHTTP2 == 0 })
	s.headers(3, true, ":status", "204")
	ask(7)
	saw(13, 7)
}

// TestH2StreamOver: the stream over the limit of a client's connection is refused as the
// protocol has it, and the others go on.
func TestH2StreamOver(t *testing.T) {
	b := newBackend(t)
	e := newH2Env(t, b.addr)
	c := dialFrames(t, e.addr)
	ask := func(id uint32) {
		c.headers(id, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a")
	}
	ask(1)
	s := serveFrames(b.accept(), xhttp2.Setting{ID: xhttp2.SettingMaxConcurrentStreams, Val: 2 * h2.MaxStreams})
	b.l.Close() // there will be no other connection
	s.want("HEADERS 1 :method=GET :scheme=http :path=/ :authority=a END")
	s.headers(1, true, ":status", "204")
	c.want("HEADERS 1 :status=204 END") // by now the proxy knows the server's limit
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range uint32(h2.MaxStreams) {
		ask(2*i + 3)
	}
	c.ping()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / h2.MaxStreams; each > 4<<10 {
		t.Errorf("a stream that is open takes %d bytes, want at most %d", each, 4<<10)
	} else {
		t.Logf("a stream that is open takes %d bytes", each)
	}
	over := uint32(2*h2.MaxStreams + 3)
	ask(over)
	c.want(fmt.Sprintf("RST_STREAM %d REFUSED_STREAM", over))
	s.want("HEADERS 3 :method=GET :scheme=http :path=/ :authority=a END")
	s.headers(3, true, ":status", "204")
	c.want("HEADERS 3 :status=204 END")
}

// TestH2ConnectionInVain: calls that wait for a connection fail with it where it ends
// before the server has said anything, rather than each trying another one.
func TestH2ConnectionInVain(t *testing.T) {
	b := newBackend(t)
	e := newH2Env(t, b.addr)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var closing sync.WaitGroup
	closing.Go(func() {
		for {
			select {
			case nc := <-b.conns:
				nc.Close()
			case <-ctx.Done():
				return
			}
		}
	})
	const calls = 50
	for _, err := range e.calls(ctx, calls)() {
		if got := status.Code(err); got != codes.Unavailable {
			t.Errorf("got %v, want %v", err, codes.Unavailable)
		}
	}
	cancel()
	closing.Wait()
	e.target.mu.Lock()
	defer e.target.mu.Unlock()
	t.Logf("%d connections", e.target.dials)
	if got := e.target.dials; got >= calls {
		t.Errorf("got %d connections for %d calls, want fewer", got, calls)
	}
}

// TestH2NoLimit: a server that sets no limit on streams gets all requests at once, on the
// connection that there is, and further connections are made meanwhile. Where there can be
// no other, it gets them all the same.
func TestH2NoLimit(t *testing.T) {
	const most = 300
	for name, settings := range map[string][]xhttp2.Setting{
		"none is set":    nil,
		"one of 100,000": {{ID: xhttp2.SettingMaxConcurrentStreams, Val: 100_000}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t)
			e := newH2Env(t, b.addr)
			c := dialFrames(t, e.addr)
			ask := func(n uint32) {
				c.headers(2*n+1, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a")
			}
			ask(0)
			s := serveFrames(b.accept(), settings...)
			b.l.Close() // there will be no other connection
			for n := range uint32(most) {
				if n > 0 {
					if n%(most/2) == 0 {
						c = dialFrames(t, e.addr) // a client's connection has a limit, too
					}
					ask(n)
				}
				s.want(fmt.Sprintf("HEADERS %d :method=GET :scheme=http :path=/ :authority=a END", 2*n+1))
			}
			if got := e.proxy.upstream.Stats().WaitingHTTP2; got != 0 {
				t.Errorf("got %d waiting requests, want 0", got)
			}
		})
	}
	t.Run("other connections", func(t *testing.T) {
		b := newBackend(t)
		e := newH2Env(t, b.addr)
		c := dialFrames(t, e.addr)
		var s *frames
		for n := range uint32(most / 2) {
			c.headers(2*n+1, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a")
			if n == 0 {
				s = serveFrames(b.accept())
				s.want("HEADERS 1 :method=GET :scheme=http :path=/ :authority=a END")
				s.headers(1, true, ":status", "204")
				c.want("HEADERS 1 :status=204 END") // by now the proxy knows that there is no limit
			}
		}
		// One more request at a time, until the proxy knows that the other connection has no limit either.
		other := serveFrames(b.accept())
		got := make(chan string, 1)
		go func() { got <- other.next() }()
		for n := uint32(most / 2); ; n++ {
			select {
			case got := <-got:
				if want := "HEADERS 1 :method=GET :scheme=http :path=/ :authority=a END"; got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
				return
			case <-time.After(time.Millisecond):
				c.headers(2*n+1, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a")
			}
		}
	})
}
