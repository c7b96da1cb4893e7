package l7proxy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"golang.org/x/sys/unix"
)

// TestH1ClientGone: the endpoint's work is given up when the client's connection is
// reset before the answer, or in the middle of it.
func TestH1ClientGone(t *testing.T) {
	for _, begun := range []bool{false, true} {
		e, b := newEnv(t), newBackend(t)
		c := e.dial(b.addr)
		c.send(get)
		srv := b.request()
		srv.expect(get)
		if begun {
			srv.send(begunAnswer)
			c.expect(begunAnswer)
		}
		_ = c.SetLinger(0)
		c.Close()
		srv.expectEnd(unix.ECONNRESET)
		if ev := e.tap.Wait(t, tap.ResponseEnd, 0); ev.Reason != mesh.ReasonClientReset {
			t.Errorf("begun %v: got %v, want %v: %+v", begun, ev.Reason, mesh.ReasonClientReset, ev)
		}
		proxytest.Eventually(t, "session over", func() bool { return e.group.Open() == 0 && e.conns() == 0 })
	}
}

const begunAnswer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"

// TestH1HalfClose: the endpoint sees the end of a client that may still read, and the
// client gets its answer, however long that takes. The endpoint's connection is not
// used again.
func TestH1HalfClose(t *testing.T) {
	for name, request := range map[string]string{
		"GET":     get,
		"POST":    "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
		"chunked": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			e, b := newEnv(t), newBackend(t)
			c := e.dial(b.addr)
			c.send(request[:len(request)-1])
			time.Sleep(20 * time.Millisecond) // the rest comes by itself
			c.send(request[len(request)-1:])
			srv := b.request()
			srv.expect(request)
			_ = c.CloseWrite()
			srv.expectEnd(nil)
			time.Sleep(2*upstream.WatchEvery + upstream.WatchEvery/2)
			srv.send(okAnswer)
			c.expect(okAnswer)
			c.expectEnd(nil)
			if ev := e.tap.Wait(t, tap.ResponseEnd, 0); ev.Reason != mesh.ReasonNone {
				t.Errorf("got %v, want no reason: %+v", ev.Reason, ev)
			}
			proxytest.Eventually(t, "all is closed", func() bool { return e.group.Open() == 0 && e.conns() == 0 })
		})
	}
}

// TestH1HalfCloseOnUsedConnection: the same on a connection to the endpoint that has
// been used before.
func TestH1HalfCloseOnUsedConnection(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	c.send(get)
	srv := b.request()
	srv.expect(get)
	srv.send(okAnswer)
	c.expect(okAnswer)
	c.send(get)
	srv.expect(get)
	_ = c.CloseWrite()
	srv.expectEnd(nil)
	srv.send(okAnswer)
	c.expect(okAnswer)
	c.expectEnd(nil)
}

// TestH1HalfCloseBehindAnotherRequest: the end of a client is behind all of its requests,
// so an endpoint that has only the first of them does not see it. It does not matter when
// the next request came: with the first one, or with the end of its body.
func TestH1HalfCloseBehindAnotherRequest(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
	for name, parts := range map[string][]string{
		"with it":                  {get + get},
		"with all of the body":     {post + "hello" + get},
		"with the end of the body": {post + "he", "llo" + get},
		"with the body":            {post, "hello" + get},
	} {
		t.Run(name, func(t *testing.T) {
			e, b := newEnv(t), newBackend(t)
			c := e.dial(b.addr)
			var srv *client
			for _, part := range parts {
				c.send(part)
				if srv == nil {
					srv = b.request()
				}
				srv.expect(strings.TrimSuffix(part, get))
			}
			_ = c.CloseWrite()
			_ = srv.SetReadDeadline(time.Now().Add(upstream.WatchEvery / 4))
			if got, err := srv.r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("while its response is awaited the endpoint reads %q, %v; want nothing", got, err)
			}
			_ = srv.SetReadDeadline(time.Now().Add(20 * time.Second))
			srv.send(okAnswer)
			c.expect(okAnswer)
			srv.expect(get)
			srv.expectEnd(nil)
			srv.send(okAnswer)
			c.expect(okAnswer)
			c.expectEnd(nil)
		})
	}
}

// TestH1ClientLeavesAStream: a client that has closed cannot be told from one that has
// ended its side until something is written to it. Then the endpoint's stream is cut.
func TestH1ClientLeavesAStream(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	c.send(get)
	srv := b.request()
	srv.expect(get)
	srv.send(begunAnswer)
	c.expect(begunAnswer)
	c.Close()
	srv.expectEnd(nil)
	proxytest.Eventually(t, "the stream is cut", func() bool {
		_, err := io.WriteString(srv.TCPConn, "1\r\nx\r\n")
		return err != nil
	})
	if ev := e.tap.Wait(t, tap.ResponseEnd, 0); ev.Reason != mesh.ReasonClientReset {
		t.Errorf("got %v, want %v: %+v", ev.Reason, mesh.ReasonClientReset, ev)
	}
}

// TestH1SlowAnswer: the watch for clients that went leaves those alone that
// wait, for longer than it takes.
func TestH1SlowAnswer(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	c.send(get + get) // pipelined, then a half-close: the answers are wanted
	_ = c.CloseWrite()
	srv := b.request()
	srv.expect(get)
	time.Sleep(2*upstream.WatchEvery + upstream.WatchEvery/2)
	srv.send(okAnswer)
	c.expect(okAnswer)
}

func TestH1Drain(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	to := e.to(b.addr)
	idle := dialTCP(t, to)
	idle.send(get)
	srv := b.request()
	srv.expect(get)
	srv.send(okAnswer)
	idle.expect(okAnswer)
	proxytest.Eventually(t, "its connection is idle", e.oneIdle)
	busy := dialTCP(t, to) // now: for a client that is silent the proxy makes a connection ahead
	busy.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
	srv.expect("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\na")
	proxytest.Eventually(t, "the first is idle", func() bool {
		return e.proxy.h1.Idle() == 1
	})
	e.proxy.Drain()
	idle.expectEnd(nil)
	busy.send("b") // what is in progress is let finish
	srv.expect("b")
	srv.send(okAnswer)
	busy.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	busy.expectEnd(nil)
}

// TestH1ClientLeavesWithItsResponse: a client that closes as soon as it has its response
// takes no connection to the endpoint with it.
func TestH1ClientLeavesWithItsResponse(t *testing.T) {
	for name, response := range map[string]string{
		"whole":   okAnswer,
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			e, b := newEnv(t), newBackend(t)
			to := e.to(b.addr)
			var srv *client
			for i := range 200 {
				c := dialTCP(t, to)
				c.send(get)
				if srv == nil {
					srv = b.request()
				}
				srv.expect(get)
				srv.send(response)
				c.expect(response)
				c.Close()
				proxytest.Eventually(t, fmt.Sprintf("the endpoint's connection is kept after %d clients", i+1), e.oneIdle)
			}
		})
	}
}

// TestH1EndpointEndsBetweenRequests: a request meets a connection that its endpoint has
// ended, and on which the endpoint reads on, as one that lingers does. Nothing of the
// request was sent, so it goes to a new connection, whatever its method and size.
func TestH1EndpointEndsBetweenRequests(t *testing.T) {
	post := func(size int) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
	}
	for name, request := range map[string]string{"GET": get, "POST": post(5), "large POST": post(31 << 10)} {
		for _, last := range []string{"", "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"} {
			t.Run(fmt.Sprintf("%s/%d", name, len(last)), func(t *testing.T) {
				e, b := newEnv(t), newBackend(t)
				c := e.dial(b.addr)
				c.send(get)
				srv := b.request()
				srv.expect(get)
				srv.send(okAnswer)
				c.expect(okAnswer)
				proxytest.Eventually(t, "its connection is idle", e.oneIdle)
				srv.send(last)
				_ = srv.CloseWrite()
				proxytest.Eventually(t, "the end has arrived", func() bool { return outgoing(t, srv) == 0 })
				c.send(request)
				next := b.request()
				next.expect(request)
				next.send(okAnswer)
				c.expect(okAnswer)
				if last == "" {
					srv.expectEnd(nil)
				}
			})
		}
	}
}
