package l7proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/state"
)

// silence is longer than any time limit that the proxy has.
const silence = 6 * time.Hour

// memory is a connection that synctest's clock knows of.
type memory struct{ net.Conn }

func (m memory) CloseWrite() error { return m.Close() }

func memoryPipe(t testing.TB) (a, b memory) {
	t.Helper()
	l := bufconn.Listen(64 << 10)
	accepted := make(chan net.Conn)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	c, err := l.Dial()
	if err != nil {
		t.Fatal(err)
	}
	s := <-accepted
	for _, nc := range []net.Conn{c, s} {
		_ = nc.SetDeadline(time.Now().Add(10 * silence)) // a test that waits in vain must end
	}
	return memory{c}, memory{s}
}

// TestIdleTunnel: bytes without a protocol, and what follows an upgrade, may be
// silent for as long as they like.
func TestIdleTunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, proxyClient := memoryPipe(t)
		proxyServer, server := memoryPipe(t)
		r := conn.Relay{Client: memoryConn{proxyClient}, Server: memoryConn{proxyServer}}
		done := make(chan mesh.Reason)
		go func() { done <- r.Run(nil, nil) }()
		for range 3 {
			time.Sleep(silence)
			passes(t, client, server)
			passes(t, server, client)
		}
		client.Close()
		server.Close()
		<-done
	})
}

func passes(t *testing.T, from, to net.Conn) {
	t.Helper()
	if _, err := io.WriteString(from, "beat"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(to, got); err != nil || string(got) != "beat" {
		t.Fatalf("%q, %v", got, err)
	}
}

// TestH1TunnelOutlivesTimeouts: what limits a request does not limit the tunnel
// that it opened.
func TestH1TunnelOutlivesTimeouts(t *testing.T) {
	const limit = 2 * time.Second // ample for the upgrade on a busy machine
	s, b := newShop(t), newBackend(t)
	s.service("apex", b.addr)
	s.route(mesh.RouteRule{
		Backends: []mesh.RouteBackend{to("apex", 1)},
		Timeouts: mesh.RouteTimeouts{Request: limit, BackendRequest: limit},
	})
	c := s.apex()
	head := "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
	c.send(head[:20])
	c.send(head[20:])
	srv := b.request()
	srv.expect(head)
	yes := "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
	srv.send(yes)
	c.expect(yes)
	time.Sleep(limit + limit/4)
	c.send("ping")
	srv.expect("ping")
	srv.send("pong")
	c.expect("pong")
}

// memoryTarget dials nothing: its connections' other ends come from servers.
type memoryTarget struct {
	h2target
	t       testing.TB
	servers chan memory
}

func (m *memoryTarget) dial(_ context.Context, ep *upstream.Endpoint, _ netip.AddrPort, _ string) (conn.Conn, upstream.Result, error) {
	proxy, server := memoryPipe(m.t)
	m.servers <- server
	return memoryConn{proxy}, ep.Expected(), nil
}

// newMemoryProxy is a proxy whose connections to endpoints lie in memory.
func newMemoryProxy(t testing.TB, o Options) (*Proxy, *memoryTarget) {
	m := &memoryTarget{t: t, servers: make(chan memory, 1)}
	m.backends = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:80")}
	o.State = &proxytest.State{Store: state.NewStore("node-1")}
	p := New(o)
	p.upstream.Connect, m.set = m.dial, p.endpoints
	return p, m
}

// memoryConn is a connection in memory.
type memoryConn struct{ net.Conn }

func (c memoryConn) CloseWrite() error {
	if w, ok := c.Conn.(memory); ok {
		return w.CloseWrite()
	}
	return c.Close()
}
func (c memoryConn) Reset() error                        { return c.Close() }
func (memoryConn) Idle() bool                            { return true }
func (memoryConn) PeerClosed() (_, _ bool)               { return false, false }
func (memoryConn) Cut() bool                             { return false }
func (memoryConn) OnHangup(*rawio.Hangups, func()) error { return nil }
func (memoryConn) ReadsInTurn(rawio.Turns)               {}
func (memoryConn) WritesInTurn(rawio.Turns)              {}
func (memoryConn) ReadMore([]byte) (int, error)          { return 0, nil }
func (memoryConn) ReadNow([]byte) (int, error)           { return 0, nil }
func (memoryConn) ConnectionState() tls.ConnectionState  { return tls.ConnectionState{} }
func (memoryConn) ReadAhead(bool)                        {}
func (memoryConn) QuickAck()                             {}
func (memoryConn) WriteFailure(err error) error          { return err }
func (memoryConn) Raw() *rawio.Conn                      { return nil }
func (memoryConn) Yield() int                            { return 0 }
func (memoryConn) Await() error                          { return nil }
func (memoryConn) Lent() (buf *[]byte, n int)            { return nil, 0 }
func (memoryConn) Flush() error                          { return nil }

func (c memoryConn) Offer(p []byte) (int, error) {
	_, err := c.Write(p)
	return 0, err
}

// TestH2IdleStream: neither a WebSocket over HTTP/2 nor a gRPC stream is cut for
// being silent, and no time limit of a connection counts while it carries one.
// sessionOf is the first session of a proxy, for a driver.
func sessionOf(p *Proxy, client conn.Conn, target destination.Target) *request.Session {
	s := &request.Session{}
	s.Connection = request.Connection{Core: &p.core, ID: 1, Client: client, Target: target}
	return s
}

func TestH2IdleStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &h2recorder{}
		proxy, target := newMemoryProxy(t, Options{Tap: rec, Log: slog.New(slog.DiscardHandler)})
		ctx, stop := context.WithCancel(t.Context())
		nc, proxyClient := memoryPipe(t)
		var running sync.WaitGroup
		running.Go(func() { proxy.Run(ctx) })
		running.Go(func() {
			proxy.h2.Serve(sessionOf(proxy, memoryConn{proxyClient}, target))
		})
		c := clientFrames(t, nc)
		c.headers(1, false, websocket...)
		serverNC := <-target.servers
		s := serverFrames(t, serverNC, serverNC, offersConnect)
		s.want("HEADERS 1 " + websocketHead)
		s.headers(1, false, ":status", "200")
		c.want("HEADERS 1 :status=200")
		call := []string{":method", "POST", ":scheme", "http", ":path", "/p.S/Watch", ":authority", "a", "content-type", "application/grpc"}
		c.headers(3, false, call...)
		s.want("HEADERS 3 :method=POST :scheme=http :path=/p.S/Watch :authority=a content-type=application/grpc")
		s.headers(3, false, ":status", "200", "content-type", "application/grpc")
		c.want("HEADERS 3 :status=200 content-type=application/grpc")
		for range 3 {
			for _, id := range []uint32{1, 3} {
				time.Sleep(silence)
				c.data(id, false, "up")
				s.want(fmt.Sprintf(`DATA %d "up"`, id))
				s.data(id, false, "down")
				c.want(fmt.Sprintf(`DATA %d "down"`, id))
			}
		}
		c.data(3, true, "")
		s.want(`DATA 3 "" END`)
		s.headers(3, true, "grpc-status", "0")
		c.want("HEADERS 3 grpc-status=0 END")
		nc.Close()
		s.want("RST_STREAM 1 CANCEL")
		stop()
		serverNC.Close()
		running.Wait()
		for i := range 2 {
			if end := rec.end(t, i); end.Status != http.StatusOK || end.Duration < 6*silence {
				t.Errorf("%+v", end)
			}
		}
	})
}
