package l7proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
)

type userKey struct{}

// loginServer authenticates connections as NTLM and Negotiate do, and says who is
// logged in on each.
func loginServer(t *testing.T) (addr string, open *atomic.Int32) {
	t.Helper()
	type user struct {
		sync.Mutex
		asked bool
		name  string
	}
	open = new(atomic.Int32)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := r.Context().Value(userKey{}).(*user)
		u.Lock()
		defer u.Unlock()
		w.Header().Add("WWW-Authenticate", `Basic realm="a, b"`)
		switch scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); {
		case scheme == "NTLM" && token == "type1":
			u.asked = true
			w.Header().Add("WWW-Authenticate", "NTLM challenge")
			w.WriteHeader(http.StatusUnauthorized)
			return
		case scheme == "NTLM" && u.asked:
			u.name = token
		case strings.EqualFold(scheme, "Negotiate"):
			u.name = token
		}
		switch {
		case u.name == "":
			w.Header().Add("WWW-Authenticate", "Negotiate, NTLM")
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/close":
			w.Header().Set("Connection", "close")
		}
		io.WriteString(w, u.name)
	}))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, userKey{}, new(user))
	}
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String(), open
}

// loginClient is one connection to url.
type loginClient struct {
	t   *testing.T
	url string
	*http.Client
}

// says makes a request and checks who the server takes the client for.
func (c *loginClient) says(authorization, want string) {
	c.t.Helper()
	req, err := http.NewRequest("GET", c.url, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := c.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if got := fmt.Sprint(resp.StatusCode, " ", string(body)); got != want || err != nil {
		c.t.Errorf("%q: %s, want %s (%v)", authorization, got, want, err)
	}
}

func (c *loginClient) login(user string) {
	c.t.Helper()
	c.says("", "401 ")
	c.says("NTLM type1", "401 ")
	c.says("NTLM "+user, "200 "+user)
	c.says("", "200 "+user)
}

// A login belongs to the client's connection, to whatever endpoint and by whatever
// route it goes: it stays there, nobody else has it, and it ends with it.
func TestLogin(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			one, openOne := loginServer(t)
			two, openTwo := loginServer(t)
			s := newShop(t)
			s.service("apex", one)
			s.service("both", one, two)
			s.service("other", two)
			s.route(mesh.RouteRule{Backends: []mesh.RouteBackend{to("both", 1), to("other", 1)}})
			url := "http://" + s.to(s.services["apex"].String())
			connect := func() *loginClient { return &loginClient{t, url, clientOf(t, http2)} }

			strangers := []*loginClient{connect(), connect()}
			for _, c := range strangers { // they leave connections for others
				c.says("", "401 ")
			}
			alice := connect()
			alice.login("alice")
			for range 20 {
				alice.says("", "200 alice")
			}
			carol, dave := connect(), connect()
			carol.says("NTLM type1", "401 ")
			dave.says("NTLM type1", "401 ")
			carol.says("NTLM carol", "200 carol")
			dave.says("NTLM dave", "200 dave")
			nora := connect()
			nora.says("Negotiate nora", "200 nora")
			for range 10 {
				for _, c := range strangers {
					c.says("", "401 ")
				}
				alice.says("", "200 alice")
				carol.says("", "200 carol")
				dave.says("", "200 dave")
				nora.says("", "200 nora")
			}
			alice.CloseIdleConnections()
			for range 10 {
				c := connect()
				c.says("", "401 ")
				c.CloseIdleConnections()
			}
			for _, c := range []*loginClient{carol, dave, nora} {
				c.CloseIdleConnections()
			}
			for _, c := range strangers {
				c.CloseIdleConnections()
			}
			// What is left is nobody's.
			proxytest.Eventually(t, "logins end with their clients' connections", func() bool {
				s.proxy.upstream.CloseIdle(0)
				return int(openOne.Load()+openTwo.Load()) == s.proxy.upstream.Stats().HTTP2
			})
		})
	}
}

// TestLoginOfACopy: a mirror's connection has the login too.
func TestLoginOfACopy(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			addr, _ := loginServer(t)
			shadow, _ := loginServer(t)
			s := newShop(t)
			s.service("apex", addr)
			s.service("shadow", shadow)
			rule := mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}}
			rule.Filters.Mirrors = []mesh.RouteMirror{{Service: mesh.ServicePortRef{Namespace: "shop", Name: "shadow", Port: 80}}}
			s.route(rule)
			alice := &loginClient{t, "http://" + s.to(s.services["apex"].String()), clientOf(t, http2)}
			alice.says("Negotiate alice", "200 alice")
			proxytest.Eventually(t, "the copy is made", func() bool { return s.proxy.core.Mirrors.Active() == 0 })
			stranger := &loginClient{t, "http://" + s.to(s.services["shadow"].String()), clientOf(t, http2)}
			for range 5 {
				stranger.says("", "401 ")
			}
		})
	}
}

// TestLoginEnds: where the endpoint closes its connection the client's closes.
func TestLoginEnds(t *testing.T) {
	addr, _ := loginServer(t)
	e := newEnv(t)
	c := e.dial(addr)
	c.send("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: negotiate alice\r\n\r\n")
	if resp, _ := c.response("GET"); resp.Close {
		t.Error("closed at once")
	}
	c.send("GET /close HTTP/1.1\r\nHost: a\r\nAuthorization: Negotiate alice\r\n\r\n")
	if resp, body := c.response("GET"); !resp.Close || body != "alice" {
		t.Errorf("%v, %q: the client's connection stays", resp.Header, body)
	}
	c.expectEnd(nil)
}

// TestLoginIsCut: the same where it is cut, and the proxy answers in its place.
func TestLoginIsCut(t *testing.T) {
	e := newEnv(t)
	b := newBackend(t)
	c := e.dial(b.addr)
	c.send("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Negotiate alice\r\n\r\n")
	server := b.request()
	server.expect("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Negotiate alice\r\n\r\n")
	server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	if resp, _ := c.response("GET"); resp.Close {
		t.Error("closed at once")
	}
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	server.expect("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	server.Close()
	if resp, _ := c.response("POST"); !resp.Close || resp.StatusCode != http.StatusBadGateway {
		t.Errorf("%s, %v: the client's connection stays", resp.Status, resp.Header)
	}
	c.expectEnd(nil)
}
