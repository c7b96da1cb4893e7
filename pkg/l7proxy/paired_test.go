package l7proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// visited is a pod with its application, and a client that asks it.
type visited struct {
	*env
	pod  *mesh.Workload
	app  *httptest.Server
	addr netip.AddrPort // where sessions begin
	open atomic.Int32   // connections of the application
}

// visit serves sessions of clients to a pod. tls is how they came: by an agent, or
// from outside the mesh.
func visit(t *testing.T, tls string, policy mesh.PolicyMode, limits Limits) *visited {
	t.Helper()
	v := &visited{env: newEnvWith(t, limits)}
	v.app = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/last" {
			w.Header().Set("Connection", "close")
		}
		io.WriteString(w, "ok")
	}))
	v.app.Config.Protocols = new(http.Protocols)
	v.app.Config.Protocols.SetHTTP1(true)
	v.app.Config.Protocols.SetUnencryptedHTTP2(true)
	v.app.Config.ConnState = func(_ net.Conn, is http.ConnState) {
		switch is {
		case http.StateNew:
			v.open.Add(1)
		case http.StateClosed, http.StateHijacked:
			v.open.Add(-1)
		}
	}
	v.app.Start()
	t.Cleanup(v.app.Close)
	l := proxytest.Listen(t)
	v.addr = l.Addr()
	v.pod = &mesh.Workload{UID: "pod", Name: "pod", Node: "node-1", Meshed: true, Addrs: []netip.Addr{v.addr.Addr()}}
	v.pod.Settings.Policy = policy
	app := mustAddr(v.app.Listener.Addr().String())
	v.proxy.upstream.Connect = func(ctx context.Context, ep *upstream.Endpoint, _ netip.AddrPort, _ string) (conn.Conn, upstream.Result, error) {
		c, err := v.network.Dial(ctx, "", app)
		if err != nil {
			return nil, ep.Expected(), mesh.Fail(mesh.ReasonConnectRefused, err)
		}
		return conn.Plain{Conn: c}, ep.Expected(), nil
	}
	v.group.Serve(l, func(c *rawio.Conn) {
		defer c.Close()
		s := &request.Session{}
		s.Connection = request.Connection{
			Core: &v.proxy.core, ID: v.proxy.ids.Add(1), Client: conn.Plain{Conn: c}, Direction: mesh.Inbound,
			Source: tap.Peer{Addr: c.Remote()}, TLS: tls, Target: v.proxy.directory.Inbound(v.pod, v.addr, false),
		}
		first := make([]byte, 1)
		if _, err := io.ReadFull(c, first); err != nil {
			return
		}
		if first[0] == 'P' { // of the preface of HTTP/2; no request of the test begins with it
			s.Head = first
			v.proxy.h2.Serve(s)
			return
		}
		buf := conn.GetBuffer()
		s.Head = (*buf)[:copy(*buf, first)]
		v.proxy.h1.Serve(s, buf)
	})
	return v
}

// endings are what an application can do with a connection after a request, or instead of
// answering it. Without the mesh the client sees that.
var endings = map[string]struct {
	path   string // of the request
	policy mesh.PolicyMode
	before func(*visited)
	after  func(*visited)
	status int
	reason string
}{
	"it is idle, and the server stops": {path: "/", after: func(v *visited) { go v.app.Config.Shutdown(context.Background()) }},
	"it is idle, and cut":              {path: "/", after: func(v *visited) { v.app.CloseClientConnections() }},
	"it ends with the response":        {path: "/last"},
	"the server is not there":          {path: "/", before: func(v *visited) { v.app.Close() }, status: 502, reason: "connect-refused"},
	"the client has no identity":       {path: "/", policy: mesh.PolicyStrict, status: 403, reason: "no-identity"},
}

// TestConnectionFromOutsideEndsWithTheServers: a client outside the mesh that has
// connected to a pod sees the end of the connection as without the mesh, when it comes. Its
// next request goes on another connection then, which another pod may get. A pod that is
// gone could not tell it any more.
func TestConnectionFromOutsideEndsWithTheServers(t *testing.T) {
	for name, c := range endings {
		if c.status == 0 {
			c.status = http.StatusOK
		}
		t.Run("HTTP/1, "+name, func(t *testing.T) {
			v := visit(t, tap.TLSNoIdentity, c.policy, Limits{})
			if c.before != nil {
				c.before(v)
			}
			client := dialTCP(t, v.addr.String())
			client.send("GET " + c.path + " HTTP/1.1\r\nHost: x\r\n\r\n")
			resp, _ := client.response("GET")
			if got := resp.Header.Get("Underlane-Reason"); resp.StatusCode != c.status || got != c.reason {
				t.Errorf("got %d %q, want %d %q", resp.StatusCode, got, c.status, c.reason)
			}
			if c.after != nil {
				if resp.Close {
					t.Error("got Connection: close, want a connection that is kept")
				}
				c.after(v)
			} else if !resp.Close {
				t.Errorf("got %v, want Connection: close", resp.Header)
			}
			client.expectEnd(nil)
		})
		if c.path == "/last" {
			continue // of HTTP/1 only
		}
		t.Run("HTTP/2, "+name, func(t *testing.T) {
			v := visit(t, tap.TLSNoIdentity, c.policy, Limits{})
			if c.before != nil {
				c.before(v)
			}
			client := dialFrames(t, v.addr.String())
			client.headers(1, true, ":method", "GET", ":scheme", "http", ":path", c.path, ":authority", "a")
			if got, want := client.next(), fmt.Sprintf("HEADERS 1 :status=%d ", c.status); len(got) < len(want) || got[:len(want)] != want {
				t.Errorf("got %s, want %s…", got, want)
			}
			client.next() // the body
			if c.after != nil {
				c.after(v)
			}
			client.want("GOAWAY NO_ERROR")
		})
	}
}

// TestAgentsConnectionOutlivesTheServers: what lies between agents, or between a client
// and its own agent, serves other requests, so the end of the server's connection is not
// passed on.
func TestAgentsConnectionOutlivesTheServers(t *testing.T) {
	for _, last := range []string{"/", "/last"} {
		t.Run(last, func(t *testing.T) {
			v := visit(t, tap.TLSTrue, mesh.PolicyAllow, Limits{})
			client := dialTCP(t, v.addr.String())
			for range 10 {
				client.send("GET " + last + " HTTP/1.1\r\nHost: x\r\n\r\n")
				if resp, body := client.response("GET"); resp.StatusCode != http.StatusOK || body != "ok" || resp.Close {
					t.Errorf("got %d %q, close %v; want 200, ok, and the connection kept", resp.StatusCode, body, resp.Close)
				}
				v.app.CloseClientConnections()
				proxytest.Eventually(t, "the proxy sees the end of the server's connection", v.network.AllHungUp)
			}
		})
	}
}

// TestKeptPairOutlivesTheIdleLimit: the connection to the application is there as long as
// that of the client, which would not hear of its end otherwise.
func TestKeptPairOutlivesTheIdleLimit(t *testing.T) {
	const idle = 50 * time.Millisecond
	v := visit(t, tap.TLSNoIdentity, mesh.PolicyAllow, Limits{IdleTimeout: idle})
	client := dialFrames(t, v.addr.String())
	client.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "a")
	client.next()
	client.next()
	time.Sleep(4 * idle)
	v.app.CloseClientConnections()
	client.want("GOAWAY NO_ERROR")
}
