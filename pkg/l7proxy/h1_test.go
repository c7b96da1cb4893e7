package l7proxy

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

const (
	get      = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
)

func TestH1KeepAliveUsesOneConnection(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	to := e.to(b.addr)
	c := dialTCP(t, to)
	c.send(get)
	srv := b.request()
	srv.expect(get)
	srv.send(okAnswer)
	c.expect(okAnswer)
	for range 5 {
		c.send(get)
		srv.expect(get)
		srv.send(okAnswer)
		c.expect(okAnswer)
	}
	// Another client of the same pod is served by the connection that is idle.
	proxytest.Eventually(t, "it is idle", e.oneIdle)
	other := dialTCP(t, to)
	other.send(get)
	srv.expect(get)
	srv.send(okAnswer)
	other.expect(okAnswer)
	b.none()
}

// lateReader records events, and does not ask for their strings until it is active.
type lateReader struct {
	*proxytest.Recorder
	active atomic.Bool
}

func (r *lateReader) Active() bool { return r.active.Load() }

// TestH1TapBeginsLater: a request that began before the tap is marked as one whose request
// line is not known. The next one is complete.
func TestH1TapBeginsLater(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	reader := &lateReader{Recorder: e.tap}
	e.proxy.core.Tap = reader
	c := e.dial(b.addr)
	var srv *client
	for round, want := range []tap.Event{{Untold: true}, {Method: "GET", Authority: "x", Path: "/"}} {
		c.send(get)
		if srv == nil {
			srv = b.request()
		}
		srv.expect(get)
		reader.active.Store(true)
		srv.send(okAnswer)
		c.expect(okAnswer)
		end := e.tap.Wait(t, tap.ResponseEnd, round)
		if end.Untold != want.Untold || end.Method != want.Method || end.Authority != want.Authority || end.Path != want.Path {
			t.Errorf("round %d: untold %v, %s %s %s; want %+v", round, end.Untold, end.Method, end.Authority, end.Path, want)
		}
	}
}

func TestH1PipeliningKeepsOrder(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	c.send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\nPOST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\nHost: x\r\n\r\n")
	srv := b.request()
	srv.expect("GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
	srv.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")
	srv.expect("POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
	srv.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n")
	srv.expect("GET /3 HTTP/1.1\r\nHost: x\r\n\r\n")
	srv.send("HTTP/1.1 204 No Content\r\n\r\n")
	c.expect("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1" +
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n" +
		"HTTP/1.1 204 No Content\r\n\r\n")
}

// TestH1BytesPassUnchanged: order and spelling of fields, chunks, trailers,
// interim responses.
func TestH1BytesPassUnchanged(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	head := "POST /x?y=%20z HTTP/1.1\r\nhOsT:  x \r\nX-b: 1\r\nx-A: 2\r\nX-b: 3\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
	c.send(head)
	srv := b.request()
	srv.expect(head)
	srv.send("HTTP/1.1 100 Continue\r\nX-I: 1\r\n\r\n")
	c.expect("HTTP/1.1 100 Continue\r\nX-I: 1\r\n\r\n")
	body := "5;ext=1\r\nhello\r\n0\r\nX-Sum: abc\r\n\r\n"
	c.send(body)
	srv.expect(body)
	answer := "HTTP/1.1 200 Fine By Me\r\nx-Z: 1\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"
	srv.send(answer)
	c.expect(answer)
	if ev := e.tap.Wait(t, tap.ResponseEnd, 0); ev.ReadBytes != 5 || ev.WriteBytes != 3 || !ev.Success() {
		t.Errorf("%+v", ev)
	}
}

func TestH1HeadHasNoBody(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	for i := range 2 {
		c.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
		if i == 0 {
			srv := b.request()
			defer srv.Close()
			go func() {
				for range 2 {
					_, _ = io.ReadFull(srv.r, make([]byte, len("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")))
					_, _ = io.WriteString(srv.TCPConn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
				}
			}()
		}
		c.expect("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
	}
}

// TestH1Upgrade: bytes that come early, on either side, are the tunnel's.
func TestH1Upgrade(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	ask := "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
	c.send(ask + "early client")
	srv := b.request()
	srv.expect("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	yes := "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
	srv.send(yes + "early server")
	c.expect(yes + "early server")
	srv.expect("early client")
	for range 3 {
		c.send("ping")
		srv.expect("ping")
		srv.send("pong")
		c.expect("pong")
	}
	_ = c.CloseWrite()
	srv.expectEnd(nil)
	srv.send("bye")
	srv.Close()
	c.expect("bye")
	c.expectEnd(nil)
	if ev := e.tap.Wait(t, tap.ResponseEnd, 0); ev.Status != 101 || ev.Reason != mesh.ReasonNone || ev.WriteBytes != 27 {
		t.Errorf("%+v", ev)
	}
	proxytest.Eventually(t, "closed", func() bool { return e.conns() == 0 })
}

// TestH1RetryOfDeadConnection: a request is repeated when the connection it was
// sent on again turns out to be dead, if it may be.
func TestH1RetryOfDeadConnection(t *testing.T) {
	for method, repeated := range map[string]bool{"GET": true, "PUT": true, "DELETE": true, "POST": false} {
		t.Run(method, func(t *testing.T) {
			e, b := newEnv(t), newBackend(t)
			c := e.dial(b.addr)
			c.send(get)
			srv := b.request()
			srv.expect(get)
			srv.send(okAnswer)
			c.expect(okAnswer)
			request := method + " / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
			c.send(request)
			srv.expect(request)
			srv.Close() // as a server does whose idle time ran out just then
			if repeated {
				again := b.request()
				again.expect(request)
				again.send(okAnswer)
				c.expect(okAnswer)
				return
			}
			if resp, _ := c.response(method); resp.StatusCode != 502 || resp.Header.Get("underlane-reason") != "upstream-reset" {
				t.Errorf("got %d %v, want 502 with underlane-reason: upstream-reset", resp.StatusCode, resp.Header)
			}
			b.none()
		})
	}
}

func TestH1BodyUntilClose(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	c.send(get)
	srv := b.request()
	srv.expect(get)
	srv.send("HTTP/1.0 200 OK\r\n\r\nall of ")
	srv.send("it")
	srv.Close()
	resp, body := c.response("GET")
	if body != "all of it" || !resp.Close {
		t.Errorf("%q %+v", body, resp)
	}
	c.expectEnd(nil)
}

func TestH1OldClient(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	to := e.to(b.addr)
	c := dialTCP(t, to)
	c.send("GET / HTTP/1.0\r\n\r\n")
	srv := b.request()
	srv.expect("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	srv.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	c.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
	c.expectEnd(nil) // by now the endpoint's connection is idle

	c = dialTCP(t, to)
	for range 2 {
		c.send("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
		srv.expect("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
		srv.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		c.expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok")
	}
}

// TestH1LargeHeads: larger than the buffers that bytes are read into.
func TestH1LargeHeads(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	big := "X-Big: " + strings.Repeat("b", 60_000) + "\r\n"
	request := "GET / HTTP/1.1\r\nHost: x\r\n" + big + "\r\n"
	response := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + big + "\r\nok"
	var srv *client
	for i := range 3 {
		c.send(request)
		if i == 0 {
			srv = b.request()
		}
		srv.expect(request)
		srv.send(response)
		c.expect(response)
	}
	c.send("GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + strings.Repeat("b", 70_000) + "\r\n\r\n")
	if resp, _ := c.response("GET"); resp.StatusCode != 431 || !resp.Close {
		t.Errorf("got %d %v, want 431 and the end of the connection", resp.StatusCode, resp.Header)
	}
}
