package l7proxy

import (
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// TestDeniedClientsAreToldWhy: a client that may not connect any more gets the reason for its
// request under way, whatever the request is, as from a policy on requests. Then its connection
// is cut.
func TestDeniedClientsAreToldWhy(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			asked := make(chan struct{}, 1)
			ended := make(chan struct{})
			app := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				asked <- struct{}{}
				<-r.Context().Done()
				close(ended)
			})}
			app.Protocols.SetHTTP1(true)
			app.Protocols.SetUnencryptedHTTP2(true)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = app.Serve(l) }()
			t.Cleanup(func() { app.Close() })
			g := guard(t, l.Addr().String())
			g.rule(nil)
			protocols := new(http.Protocols)
			protocols.SetHTTP1(!http2)
			protocols.SetUnencryptedHTTP2(http2)
			transport := &http.Transport{Protocols: protocols}
			defer transport.CloseIdleConnections()
			answer := make(chan string, 1)
			go func() {
				req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+g.addr.String()+"/", nil)
				resp, err := transport.RoundTrip(req)
				if err != nil {
					answer <- err.Error()
					return
				}
				resp.Body.Close()
				answer <- fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Underlane-Reason"))
			}()
			<-asked
			g.rule(allowFrom("10.0.0.0/8"))
			if got := <-answer; got != "403 policy-denied" {
				t.Errorf("got %q, want 403 policy-denied", got)
			}
			<-ended
			proxytest.Eventually(t, "the connection is counted", func() bool { return g.proxy.PolicyRevoked() > 0 && g.proxy.RequestsRevoked() > 0 })
		})
	}
}

// idleVisitor has made a request to a pod, and then its policies did not allow it any more.
func idleVisitor(t *testing.T, tls string) (*visited, *guardedPod, *client) {
	t.Helper()
	v := visit(t, tls, mesh.PolicyAllow, Limits{})
	g := &guardedPod{env: v.env, pod: v.pod, addr: v.addr}
	g.rule(nil)
	c := dialTCP(t, v.addr.String())
	c.send(get)
	if resp, body := c.response("GET"); resp.StatusCode != 200 || body != "ok" {
		t.Fatalf("got %d %q, want 200 and ok", resp.StatusCode, body)
	}
	proxytest.Eventually(t, "the session is idle", func() bool { return v.proxy.h1.Idle() == 1 })
	g.rule(allowFrom("10.0.0.0/8"))
	proxytest.Eventually(t, "the client is denied", func() bool { return v.proxy.PolicyRevoked() == 1 })
	return v, g, c
}

// TestIdleDeniedClients: the next request on an idle connection of a client that may not connect
// any more gets the reason, not the end of the connection. The application's side is closed before.
func TestIdleDeniedClients(t *testing.T) {
	v, g, c := idleVisitor(t, tap.TLSNoIdentity)
	proxytest.Eventually(t, "the application's side is closed", func() bool { return v.open.Load() == 0 })
	g.rule(allowFrom("10.0.0.0/9"))
	g.judged() // again: the session goes on waiting
	c.send("DELETE / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody")
	if resp, _ := c.response("DELETE"); resp.StatusCode != 403 || resp.Header.Get("Underlane-Reason") != "policy-denied" || !resp.Close {
		t.Errorf("got %d %v, want 403 policy-denied and the end", resp.StatusCode, resp.Header)
	}
	c.expectEnd(nil)
	if n := v.proxy.PolicyRevoked(); n != 1 {
		t.Errorf("%d connections are counted, want 1", n)
	}
}

// TestIdleDeniedClientsEnd: a denied client that asks nothing more is not waited for.
func TestIdleDeniedClientsEnd(t *testing.T) {
	t.Parallel()
	_, _, c := idleVisitor(t, tap.TLSNoIdentity)
	c.expectEnd(nil)
}

// TestIdleDeniedAgents: another agent is told at once that its client is denied, so that a request
// on its way goes out on another connection.
func TestIdleDeniedAgents(t *testing.T) {
	_, _, c := idleVisitor(t, tap.TLSTrue)
	if resp, _ := c.response("GET"); resp.StatusCode != 403 || resp.Header.Get("Underlane-Reason") != "policy-denied; unsent" || !resp.Close {
		t.Errorf("got %d %v, want 403 policy-denied; unsent and the end", resp.StatusCode, resp.Header)
	}
	c.send(post) // it was on its way: the farewell is not lost to a reset
	c.expectEnd(nil)
}
