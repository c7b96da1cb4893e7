package l7proxy

import (
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"golang.org/x/sys/unix"
)

// halfBodies are requests that end inside their body, which each server can see.
var halfBodies = map[string]string{
	"before a length":  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
	"inside a length":  "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
	"before a chunk":   "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
	"inside a chunk":   "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
	"between chunks":   "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	"in a chunk's end": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r",
	"in the last line": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
}

// TestH1HalfCloseInsideBody: the endpoint sees the FIN of a client that ends its side
// inside its request's body, and no end of the body. What it does then the client sees:
// an answer, after which neither side's connection is used again, or an end.
func TestH1HalfCloseInsideBody(t *testing.T) {
	for name, request := range halfBodies {
		for then, test := range map[string]struct {
			answer string // the client's
			end    error
			reason mesh.Reason
		}{
			"answers": {"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", nil, mesh.ReasonNone},
			"closes":  {"", nil, mesh.ReasonClientReset},
			"resets":  {"", unix.ECONNRESET, mesh.ReasonClientReset},
		} {
			t.Run(name+"/"+then, func(t *testing.T) {
				e, b := newEnv(t), newBackend(t)
				c := e.dial(b.addr)
				c.send(request)
				srv := b.request()
				srv.expect(request)
				_ = c.CloseWrite()
				srv.expectEnd(nil)
				switch then {
				case "answers":
					srv.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
				case "resets":
					_ = srv.SetLinger(0)
					fallthrough
				case "closes":
					srv.Close()
				}
				c.expect(test.answer)
				c.expectEnd(test.end)
				if ev := e.tap.Wait(t, tap.ResponseEnd, 0); ev.Reason != test.reason {
					t.Errorf("got reason %q, want %q: %+v", ev.Reason, test.reason, ev)
				}
				proxytest.Eventually(t, "all is closed", func() bool { return e.group.Open() == 0 && e.conns() == 0 })
			})
		}
	}
}

// TestH1ClientCutsItsBody: a client that closes inside its request's body is, until it
// resets, one that has ended its side.
func TestH1ClientCutsItsBody(t *testing.T) {
	for name, end := range map[string]error{"closes": nil, "resets": unix.ECONNRESET} {
		t.Run(name, func(t *testing.T) {
			e, b := newEnv(t), newBackend(t)
			c := e.dial(b.addr)
			request := halfBodies["inside a length"]
			c.send(request)
			srv := b.request()
			srv.expect(request)
			if end != nil {
				_ = c.SetLinger(0)
			}
			c.Close()
			srv.expectEnd(end)
			srv.Close()
			if ev := e.tap.Wait(t, tap.ResponseEnd, 0); ev.Reason != mesh.ReasonClientReset || ev.ReadBytes != 3 {
				t.Errorf("got reason %q and %d bytes, want %q and 3: %+v", ev.Reason, ev.ReadBytes, mesh.ReasonClientReset, ev)
			}
		})
	}
}

// TestH1FailureInsideBody: what the endpoint does wrong while the client still sends is
// told as at any other time.
func TestH1FailureInsideBody(t *testing.T) {
	for name, test := range map[string]struct {
		do     func(*client)
		status int
		reason mesh.Reason
	}{
		"closes":       {func(srv *client) { srv.Close() }, 502, mesh.ReasonUpstreamReset},
		"ends":         {func(srv *client) { _ = srv.CloseWrite() }, 502, mesh.ReasonUpstreamReset},
		"resets":       {func(srv *client) { _ = srv.SetLinger(0); srv.Close() }, 502, mesh.ReasonUpstreamReset},
		"half a head":  {func(srv *client) { srv.send("HTTP/1.1 200 OK\r\nCo"); srv.Close() }, 502, mesh.ReasonUpstreamReset},
		"nonsense":     {func(srv *client) { srv.send("nonsense\r\n\r\n") }, 502, mesh.ReasonBadResponse},
		"keeps silent": {func(*client) {}, 504, mesh.ReasonTimeout},
	} {
		for where, request := range halfBodies {
			t.Run(name+"/"+where, func(t *testing.T) {
				s, b := newShop(t), newBackend(t)
				s.service("apex", b.addr)
				rule := mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}}
				if test.reason == mesh.ReasonTimeout {
					rule.Timeouts.Request = time.Second // the endpoint has to get the request in this time
				}
				s.route(rule)
				c := s.apex()
				c.send(request)
				if srv := b.request(); test.reason != mesh.ReasonTimeout {
					srv.expect(request)
					test.do(srv)
				}
				resp, _ := c.response("POST")
				if got := resp.Header.Get("underlane-reason"); resp.StatusCode != test.status || got != test.reason.String() || !resp.Close {
					t.Errorf("got %d, %q, closing %v; want %d, %q, true", resp.StatusCode, got, resp.Close, test.status, test.reason)
				}
				c.expectEnd(nil)
				c.Close() // before that the proxy waits for what it still sends
				if ev := s.tap.Wait(t, tap.ResponseEnd, 0); ev.Reason != test.reason {
					t.Errorf("got reason %q, want %q: %+v", ev.Reason, test.reason, ev)
				}
			})
		}
	}
}

// TestH1BadChunkLater: a body that breaks once the endpoint has part of it.
func TestH1BadChunkLater(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	c.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
	srv := b.request()
	srv.expect("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
	c.send("zz\r\n")
	if resp, _ := c.response("POST"); resp.StatusCode != 400 || !resp.Close {
		t.Errorf("got %d %v, want 400 and the end of the connection", resp.StatusCode, resp.Header)
	}
	srv.expectEnd(unix.ECONNRESET)
	if ev := e.tap.Wait(t, tap.ResponseEnd, 0); ev.Reason != mesh.ReasonBadRequest {
		t.Errorf("%+v", ev)
	}
}
