package l7proxy

import (
	"io"
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// TestH1BadResponses: before the head is out the client is told, after it the
// stream is cut so that it cannot take a part for the whole.
func TestH1BadResponses(t *testing.T) {
	for response, want := range map[string]mesh.Reason{
		"nonsense\r\n\r\n": mesh.ReasonBadResponse,
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab":                                                  mesh.ReasonBadResponse,
		"HTTP/1.1 200 OK\r\nContent-Le":                                                                                        mesh.ReasonUpstreamReset,
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc":                                                                     mesh.ReasonUpstreamReset,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n":                                                    mesh.ReasonUpstreamReset,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n":                                             mesh.ReasonBadResponse,
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 70_000) + "\r\n\r\n":                                                    mesh.ReasonResponseHeader,
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 300) + "\r\n":                                                       mesh.ReasonResponseHeader,
		"HTTP/1.1 103 Early Hints\r\n" + strings.Repeat("X: y\r\n", 300) + "\r\n":                                              mesh.ReasonResponseHeader,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: " + strings.Repeat("y", 20_000) + "\r\n\r\n": mesh.ReasonResponseHeader,
	} {
		t.Run(response[:min(60, len(response))], func(t *testing.T) {
			e, b := newEnv(t), newBackend(t)
			c := e.dial(b.addr)
			c.send(get)
			srv := b.request()
			srv.expect(get)
			srv.send(response)
			_ = srv.CloseWrite()
			ev := e.tap.Wait(t, tap.ResponseEnd, 0)
			if ev.Reason != want {
				t.Errorf("%+v", ev)
			}
			if !ev.Reset {
				if resp, _ := c.response("GET"); resp.StatusCode != 502 || resp.Header.Get("underlane-reason") != want.String() {
					t.Errorf("got %d %v, want 502 with underlane-reason: %v", resp.StatusCode, resp.Header, want)
				}
				return
			}
			if got, err := io.ReadAll(c.r); err == nil {
				t.Errorf("%q passes for a whole response", got)
			}
		})
	}
}

func TestH1UnaskedUpgradeIsBad(t *testing.T) {
	e, b := newEnv(t), newBackend(t)
	c := e.dial(b.addr)
	c.send(get)
	srv := b.request()
	srv.expect(get)
	srv.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nGET / ")
	if resp, _ := c.response("GET"); resp.StatusCode != 502 || resp.Header.Get("underlane-reason") != "bad-response" {
		t.Errorf("got %d %v, want 502 with underlane-reason: bad-response", resp.StatusCode, resp.Header)
	}
}

// TestH1LeftOverBytesAreNobodysAnswer: a server that says more than it was
// asked must not answer the next request with it.
func TestH1LeftOverBytesAreNobodysAnswer(t *testing.T) {
	for _, late := range []bool{false, true} {
		e, b := newEnv(t), newBackend(t)
		c := e.dial(b.addr)
		c.send(get)
		srv := b.request()
		srv.expect(get)
		evil := "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
		if late {
			srv.send(okAnswer)
			c.expect(okAnswer)
			srv.send(evil)
			proxytest.Eventually(t, "it came to the proxy", func() bool { return e.conns() == 0 || e.unread() })
		} else {
			srv.send(okAnswer + evil)
			c.expect(okAnswer)
		}
		c.send(get)
		again := b.request()
		again.expect(get)
		again.send(okAnswer)
		c.expect(okAnswer)
	}
}
