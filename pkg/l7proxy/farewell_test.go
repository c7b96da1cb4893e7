package l7proxy

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

const (
	post     = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
	farewell = "HTTP/1.1 502 Bad Gateway\r\nunderlane-reason: upstream-reset; unsent\r\nconnection: close\r\n" +
		"content-type: text/plain; charset=utf-8\r\ncontent-length: 66\r\n\r\nthe server closed the connection before its response was complete\n"
)

// TestFarewell: a proxy that drains tells other agents on their idle connections that it
// reads no further request, so that a request which is on its way then is not lost. It tells
// nobody else: a client that knows no farewell would take it for the response to its next
// request.
func TestFarewell(t *testing.T) {
	for tls, want := range map[string]string{tap.TLSTrue: farewell, tap.TLSNoIdentity: ""} {
		t.Run("tls="+tls, func(t *testing.T) {
			v := visit(t, tls, mesh.PolicyAllow, Limits{})
			client := dialTCP(t, v.addr.String())
			client.send(get)
			if resp, body := client.response("GET"); resp.StatusCode != 200 || body != "ok" {
				t.Fatalf("got %d %q, want 200 and ok", resp.StatusCode, body)
			}
			proxytest.Eventually(t, "the session is idle", func() bool { return v.proxy.h1.Idle() == 1 })
			v.proxy.Drain()
			client.expect(want)
			if want != "" {
				client.send(post) // it was on its way: the farewell is not lost to a reset
			}
			client.expectEnd(nil)
		})
	}
}

// TestFarewellIsNoResponse: a request that an agent has not read goes out on another
// connection, whatever its method. Only an agent may say so, and only where the connection
// had been idle.
func TestFarewellIsNoResponse(t *testing.T) {
	// agent makes the connections of a proxy those to an agent.
	agent := func(e *env) {
		e.proxy.upstream.Connect = func(ctx context.Context, ep *upstream.Endpoint, _ netip.AddrPort, _ string) (conn.Conn, upstream.Result, error) {
			c, err := e.network.Dial(ctx, "", ep.Peer.Addr)
			if err != nil {
				return nil, ep.Expected(), err
			}
			result := ep.Expected()
			result.TLS = tap.TLSTrue
			return conn.Plain{Conn: c}, result, nil
		}
	}
	denied := strings.NewReplacer("502 Bad Gateway", "403 Forbidden", "upstream-reset", "policy-denied").Replace(farewell)
	for name, tc := range map[string]struct{ request, farewell string }{
		"GET": {get, farewell}, "POST": {post, farewell}, "GET, denied": {get, denied}, "POST, denied": {post, denied},
	} {
		request, farewell := tc.request, tc.farewell
		t.Run(name, func(t *testing.T) {
			e, b := newEnv(t), newBackend(t)
			agent(e)
			c := e.dial(b.addr)
			c.send(request)
			srv := b.request()
			srv.expect(request)
			srv.send(okAnswer)
			c.expect(okAnswer)
			c.send(request)
			srv.expect(request)
			srv.send(farewell)
			other := b.request()
			other.expect(request)
			other.send(okAnswer)
			c.expect(okAnswer)
			srv.expectEnd(nil)
		})
	}
	t.Run("of a new connection", func(t *testing.T) {
		e, b := newEnv(t), newBackend(t)
		agent(e)
		c := e.dial(b.addr)
		c.send(post)
		srv := b.request()
		srv.expect(post)
		srv.send(farewell)
		if resp, _ := c.response("POST"); resp.StatusCode != 502 {
			t.Errorf("got %d, want 502", resp.StatusCode)
		}
	})
	t.Run("of an application", func(t *testing.T) {
		e, b := newEnv(t), newBackend(t)
		c := e.dial(b.addr)
		c.send(post)
		srv := b.request()
		srv.expect(post)
		srv.send(okAnswer)
		c.expect(okAnswer)
		c.send(post)
		srv.expect(post)
		srv.send(farewell)
		if resp, _ := c.response("POST"); resp.StatusCode != 502 {
			t.Errorf("got %d, want 502", resp.StatusCode)
		}
	})
}
