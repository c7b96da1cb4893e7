package l7proxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// warmed are two agents between which the next connection is a stream, and the server.
func warmed(t *testing.T) (*agents, *backend) {
	t.Helper()
	b := newBackend(t)
	a := newAgents(t, b.addr, Limits{})
	a.warm(func() { a.visit(b) })
	return a, b
}

// visit makes a connection, and ends it.
func (a *agents) visit(b *backend) {
	a.t.Helper()
	c := a.dial()
	c.send(opaqueBytes)
	srv := b.request()
	srv.expect(opaqueBytes)
	c.Close()
	srv.expectEnd(nil)
	srv.Close()
}

// stream is a stream's client and its server, which have exchanged opaqueBytes.
func (a *agents) stream(b *backend) (c, srv *client) {
	a.t.Helper()
	before := a.streams()
	c = a.dial()
	c.send(opaqueBytes)
	srv = b.request()
	srv.expect(opaqueBytes)
	if n := a.streams(); n != before+1 {
		a.t.Fatalf("%d streams are open, want %d", n, before+1)
	}
	return c, srv
}

// TestOpaqueStream: the application sees the client's own port, and both agents report the
// connection as they report others.
func TestOpaqueStream(t *testing.T) {
	a, b := warmed(t)
	seen := map[*env]int{a.client: len(a.client.tap.Events()), a.server: len(a.server.tap.Events())}
	c, srv := a.stream(b)
	srv.send("answer")
	c.expect("answer")
	port := mustAddr(c.LocalAddr().String()).Port()
	want := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port)
	if got := a.apps.clientOf(mustAddr(srv.RemoteAddr().String())); got != want {
		t.Errorf("the application sees %s as its client, want %s", got, want)
	}
	var wires [2]tap.LiveLeg
	for e, from := range seen {
		proxytest.Eventually(t, "it is reported as open", func() bool { return len(e.tap.Events()) > from })
		event := e.tap.Events()[from]
		if event.Kind != tap.ConnOpen || event.TLS != tap.TLSTrue || event.Protocol != "tcp" {
			t.Errorf("got %+v, want an open connection of mTLS", event)
		}
		if e == a.server && (event.Source.Identity != webIdentity || event.Source.Addr != want) {
			t.Errorf("the server's agent reports %+v as the client, want %s at %s", event.Source, webIdentity, want)
		}
		if up, down := event.Live.Bytes(); up != uint64(len(opaqueBytes)) || down != uint64(len("answer")) {
			t.Errorf("%d and %d bytes are reported, want %d and %d", up, down, len(opaqueBytes), len("answer"))
		}
		if legs := event.Live.Legs(); e == a.client {
			wires[0] = legs.Server
		} else {
			wires[1] = legs.Client
		}
	}
	if wires[0].Local != want || wires[0].Local != wires[1].Remote || wires[0].Remote != wires[1].Local || wires[0].SRTT == 0 || wires[0].Sent != wires[1].Received {
		t.Errorf("the agents report %+v and %+v of what is between them, want the same", wires[0], wires[1])
	}
	c.Close()
	srv.expectEnd(nil)
	srv.Close()
	for e, from := range seen {
		proxytest.Eventually(t, "it is reported as closed", func() bool { return len(e.tap.Events()) > from+1 })
		event := e.tap.Events()[from+1]
		if event.Kind != tap.ConnClose || event.Reason != mesh.ReasonNone || event.ReadBytes != uint64(len(opaqueBytes)) || event.WriteBytes != 6 || event.SRTT == 0 {
			t.Errorf("got %+v, want the end of the connection", event)
		}
	}
}

// TestOpaqueStreamEnds: ends and resets of both sides are passed on, also of a stream that has
// moved to a connection of its own.
func TestOpaqueStreamEnds(t *testing.T) {
	for name, play := range map[string]func(a, b *client){
		"half-close": func(a, b *client) {
			_ = a.CloseWrite()
			b.expectEnd(nil)
			b.send("late")
			_ = b.CloseWrite()
			a.expect("late")
			a.expectEnd(nil)
		},
		"close": func(a, b *client) {
			a.Close()
			b.expectEnd(nil)
		},
		"reset": func(a, b *client) {
			_ = a.SetLinger(0)
			a.Close()
			b.expectEnd(unix.ECONNRESET)
		},
		"reset after the other's end": func(a, b *client) {
			_ = b.CloseWrite()
			a.expectEnd(nil)
			_ = a.SetLinger(0)
			a.Close()
			proxytest.Eventually(b.t, "the reset has come", func() bool {
				_, err := b.Write([]byte("x"))
				return err != nil
			})
		},
		"bytes, then reset by what is unread": func(a, b *client) {
			b.send("unread")
			_, _ = a.r.Peek(1)
			a.r.Reset(nil)
			b.send("more")
			proxytest.Eventually(a.t, "there is something to read", func() bool {
				n, err := unreadOf(a.TCPConn)
				return err == nil && n > 0
			})
			a.Close()
			b.expectEnd(unix.ECONNRESET)
		},
	} {
		for _, by := range []string{"client", "server", "client, moved", "server, moved"} {
			t.Run(name+" by the "+by, func(t *testing.T) {
				a, backend := warmed(t)
				c, srv := a.stream(backend)
				by, moved := strings.CutSuffix(by, ", moved")
				others := 0
				if moved {
					a.moves(backend, c, srv)
					others = 1
				}
				if by == "client" {
					play(c, srv)
				} else {
					play(srv, c)
				}
				c.Close()
				srv.Close()
				proxytest.Eventually(t, "the stream is gone", func() bool { return a.streams() == others })
				proxytest.Eventually(t, "its connection has ended", func() bool { return a.shared() == 1 })
			})
		}
	}
}

func unreadOf(c *net.TCPConn) (n int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	_ = raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n, err
}

// TestOpaqueStreamServerFirst: a server that speaks first does so on a stream, and one to
// which nobody speaks has a connection.
func TestOpaqueStreamServerFirst(t *testing.T) {
	b := newBackend(t)
	a := newAgents(t, b.addr, Limits{})
	streams := 0
	visit := func() {
		c := a.dial()
		srv := b.accept()
		srv.send("220 hello\r\n")
		c.expect("220 hello\r\n")
		streams = a.streams()
		c.send("EHLO")
		srv.expect("EHLO")
		srv.Close()
		c.expectEnd(nil)
		c.Close()
	}
	a.warm(visit)
	for range 3 {
		if visit(); streams != 1 {
			t.Errorf("%d streams were open, want 1", streams)
		}
		proxytest.Eventually(t, "the stream is gone", func() bool { return a.streams() == 0 })
	}
}

// TestOpaqueStreamBytes: many streams at once carry the same bytes in pieces of all sizes,
// in both directions, with ends at different times.
func TestOpaqueStreamBytes(t *testing.T) {
	addr := serveConns(t, func(nc net.Conn) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{nc}, struct{ io.Reader }{nc}, make([]byte, 3000))
		_ = nc.(*rawio.Conn).CloseWrite()
	})
	a := newAgents(t, addr, Limits{})
	to := a.client.to(a.addr.String())
	a.warmEcho(to)
	var all sync.WaitGroup
	for i := range 150 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			sent := make([]byte, 1+random.IntN(200<<10))
			for j := range sent {
				sent[j] = byte(random.Uint32())
			}
			sent[0] = 0 // opaque
			nc, err := net.Dial("tcp", to)
			if err != nil {
				t.Error(err)
				return
			}
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(time.Minute))
			all.Go(func() {
				for rest := sent; len(rest) > 0; {
					n := min(len(rest), 1+random.IntN(1<<(1+random.IntN(16))))
					if _, err := nc.Write(rest[:n]); err != nil {
						t.Errorf("client %d: %v", i, err)
						return
					}
					rest = rest[n:]
				}
				_ = nc.(*net.TCPConn).CloseWrite()
			})
			if got, err := io.ReadAll(nc); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("client %d: got %d bytes and %v, want the %d that it has sent", i, len(got), err, len(sent))
			}
		})
	}
	all.Wait()
	if stats := a.client.proxy.upstream.Stats(); stats.Opaque == 0 {
		t.Error("no connection was shared")
	}
	proxytest.Eventually(t, "the streams are gone", func() bool { return a.streams() == 0 })
}

// TestOpaqueStreamStalls: streams whose clients, or servers, do not read are no hindrance to
// others, and what waits for them is bounded and counted.
func TestOpaqueStreamStalls(t *testing.T) {
	for _, reads := range []string{"client", "server"} {
		t.Run("the "+reads+" does not read", func(t *testing.T) {
			a, b := warmed(t)
			const stalled = 8
			key, e := quota.Key{UID: "client", Direction: mesh.Outbound}, a.client
			if reads == "server" {
				key, e = quota.Key{UID: "db", Direction: mesh.Inbound}, a.server
			}
			var writing sync.WaitGroup
			var ends []*client
			for range stalled {
				c, srv := a.stream(b)
				if reads == "server" {
					c, srv = srv, c
				}
				ends = append(ends, c, srv)
				writing.Go(func() {
					for {
						if _, err := srv.Write(make([]byte, 64<<10)); err != nil {
							return
						}
					}
				})
			}
			held := func() int { _, held := e.proxy.pods.Of(key); return int(held) }
			proxytest.Eventually(t, "bytes wait", func() bool { return held() >= 8<<10 })
			c, srv := a.stream(b)
			for i := range 1000 {
				message := fmt.Sprintf("message %d", i)
				c.send(message)
				srv.expect(message)
				srv.send(message)
				c.expect(message)
			}
			if n := held(); n > stalled*64<<10 {
				t.Errorf("%d bytes wait, want at most 64 KiB for each of %d", n, stalled)
			}
			for _, end := range ends {
				_ = end.SetLinger(0)
				end.Close()
			}
			writing.Wait()
			proxytest.Eventually(t, "nothing waits", func() bool { return held() == 0 })
		})
	}
}

// TestShortOpaqueStreams: many connections, each for one message, need few handshakes.
func TestShortOpaqueStreams(t *testing.T) {
	a := newAgents(t, echoServer(t), Limits{})
	to := a.client.to(a.addr.String())
	var all sync.WaitGroup
	const clients, each = 20, 50
	for range clients {
		all.Go(func() {
			for range each {
				if err := echoOnce(to); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	// Outbound connections of the client's agent: all to the other one.
	if n := a.client.network.Dials(); n > clients*each/4 {
		t.Errorf("%d connections were made between the agents, want far fewer than %d", n, clients*each)
	}
	proxytest.Eventually(t, "the server's agent has reported all of them", func() bool { return len(closed(a.server)) >= clients*each })
}

func echoServer(t testing.TB) string {
	return serveConns(t, func(nc net.Conn) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{nc}, struct{ io.Reader }{nc}, make([]byte, 16))
	})
}

func echoOnce(to string) error {
	nc, err := net.Dial("tcp", to)
	if err != nil {
		return err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	if _, err = nc.Write([]byte{0}); err == nil {
		_, err = io.ReadFull(nc, make([]byte, 1))
	}
	return err
}

// TestOpaqueStreamsOfOtherVersions: an agent that does not know them gets, and makes, a
// connection for each, with one handshake each. It is never asked in
// vain.
func TestOpaqueStreamsOfOtherVersions(t *testing.T) {
	var asked atomic.Int32 // how often the server's agent was asked for a shared connection
	for name, old := range map[string]func(*agents){
		"client": func(a *agents) { a.client.proxy.upstream.OpaqueStreams = upstream.NoStreams },
		"server": func(a *agents) {
			config, err := a.server.proxy.Certs.ServerConfig(dbIdentity)
			if err != nil {
				a.t.Fatal(err)
			}
			config.NextProtos = []string{mtls.ALPNHTTP2, mtls.ALPNMux, mtls.ALPNHTTP1, mtls.ALPNTCP} // of v0.1.0
			config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				if slices.Contains(hello.SupportedProtos, mtls.ALPNStreams) {
					asked.Add(1)
				}
				return nil, nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgents(t, echoServer(t), Limits{}, old)
			to := a.client.to(a.addr.String())
			const oneByOne, atOnce = 20, 60
			for range oneByOne {
				if err := echoOnce(to); err != nil {
					t.Fatal(err)
				}
			}
			var all sync.WaitGroup
			for range atOnce {
				all.Go(func() {
					if err := echoOnce(to); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if n := a.client.network.Dials(); n != oneByOne+atOnce {
				t.Errorf("%d connections were made between the agents, want %d", n, oneByOne+atOnce)
			}
			if n := asked.Load(); n != 0 {
				t.Errorf("%d times an agent was asked for a shared connection, want never", n)
			}
			if n := a.client.proxy.upstream.Stats().Opaque; n != 0 {
				t.Errorf("%d are shared, want none", n)
			}
		})
	}
}
