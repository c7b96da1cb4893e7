package l7proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/tap"
)

// longApp is an application whose requests last until they are cut, or until the test lets
// them end.
type longApp struct {
	addr  string
	begun atomic.Int32
	cut   atomic.Int32 // requests whose client is gone
	end   context.CancelFunc
}

// newLongApp answers /…/wait at the end only, upgrades /…/ws to an echo, and sends the begin of
// other responses at once.
func newLongApp(t *testing.T) *longApp {
	t.Helper()
	ended, end := context.WithCancel(t.Context())
	a := &longApp{end: end}
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		grpc := r.Header.Get("Content-Type") == "application/grpc"
		gone := make(chan struct{})
		if r.ProtoMajor == 1 { // otherwise net/http reads the body first
			_ = http.NewResponseController(w).EnableFullDuplex()
		}
		if r.Method == "POST" && !grpc { // net/http does not see that the client is gone unless the body is read
			go func() {
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					close(gone)
				}
			}()
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "/ws"):
			c, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			a.begun.Add(1)
			if _, err := io.Copy(c, rw); err != nil {
				a.cut.Add(1)
			}
			return
		case strings.HasSuffix(r.URL.Path, "/wait"):
		default:
			if grpc {
				w.Header().Set("Content-Type", "application/grpc")
				w.Header().Set("Trailer", "Grpc-Status")
			}
			io.WriteString(w, "begin")
			w.(http.Flusher).Flush()
		}
		a.begun.Add(1)
		select {
		case <-r.Context().Done():
			a.cut.Add(1)
		case <-gone:
			a.cut.Add(1)
		case <-ended.Done():
			io.WriteString(w, " end")
			if grpc {
				w.Header().Set("Grpc-Status", "0")
			}
		}
	}))
	app.Config.Protocols = new(http.Protocols)
	app.Config.Protocols.SetHTTP1(true)
	app.Config.Protocols.SetUnencryptedHTTP2(true)
	app.Start()
	t.Cleanup(func() { end(); app.Close() })
	a.addr = app.Listener.Addr().String()
	return a
}

// longCall is a request under way.
type longCall struct {
	path string
	done chan string // gets what came of it
}

// call makes a request, and says what came of it: the status, the reason, the status of gRPC,
// the body, and "cut" if that is not complete.
func call(t *testing.T, client http.RoundTripper, r *http.Request) *longCall {
	t.Helper()
	c := &longCall{path: r.URL.Path, done: make(chan string, 1)}
	go func() {
		resp, err := client.RoundTrip(r)
		if err != nil {
			c.done <- "no response"
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		out := fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Underlane-Reason"), resp.Trailer.Get("Underlane-Reason"),
			resp.Trailer.Get("Grpc-Status"), " ", strings.TrimSpace(string(body)))
		if err != nil {
			out += " cut"
		}
		c.done <- out
	}()
	return c
}

func (c *longCall) want(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-c.done:
		if got != want {
			t.Errorf("%s: got %q, want %q", c.path, got, want)
		}
	case <-time.After(20 * time.Second):
		t.Errorf("%s: it goes on, want %q", c.path, want)
	}
}

const deniedText = "the server's policy does not allow this client"

// TestPolicyChangesCutRequests: a request under way that only a rule on requests refuses after
// a change is ended, with the reason: what has no response yet is answered, a gRPC call gets
// its status, the rest is cut. Others go on, those on the same connection, too.
func TestPolicyChangesCutRequests(t *testing.T) {
	prefix := func(p string) authz.Operation {
		return authz.Operation{Paths: []authz.Match{{Kind: authz.Prefix, Value: p}}}
	}
	header := func(v string) *authz.Group {
		return &authz.Group{Name: "g", Policies: []authz.Policy{{Name: "p", Action: authz.ActionAllow, Rules: []authz.Rule{{
			When: []authz.Condition{{Kind: authz.ConditionHeader, Name: "x-kind", Values: []authz.Match{{Kind: authz.Regex, Value: v}}}},
		}}}}}
	}
	deny := func(action authz.Action) *authz.Group {
		return &authz.Group{Name: "g", Default: authz.ModeAllUnauthenticated, Policies: []authz.Policy{{Name: "p", Action: action, Rules: []authz.Rule{{To: []authz.Operation{prefix("/cut/")}}}}}}
	}
	for name, tc := range map[string]struct{ before, same, after *authz.Group }{
		"paths":      {allowRequests(prefix("/")), allowRequests(prefix("/")), allowRequests(prefix("/stay/"))},
		"headers":    {header("cut|stay"), header("stay|cut"), header("stay")},
		"deny rules": {deny(authz.ActionAudit), deny(authz.ActionAudit), deny(authz.ActionDeny)},
	} {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, http2=%v", name, http2), func(t *testing.T) {
				app := newLongApp(t)
				g := guard(t, app.addr)
				g.rule(tc.before)
				protocols := new(http.Protocols)
				protocols.SetHTTP1(!http2)
				protocols.SetUnencryptedHTTP2(http2)
				transport := &http.Transport{Protocols: protocols}
				defer transport.CloseIdleConnections()
				begin := func(kind, path string) *longCall {
					t.Helper()
					before := app.begun.Load()
					r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+g.addr.String()+"/"+kind+path, nil)
					if err != nil {
						t.Fatal(err)
					}
					r.Header.Set("X-Kind", kind)
					switch path {
					case "/upload/wait", "/upload/early":
						body, _ := io.Pipe()
						t.Cleanup(func() { body.Close() })
						r.Method, r.Body = "POST", body
					case "/grpc":
						r.Method = "POST"
						r.Header.Set("Content-Type", "application/grpc")
						r.Header.Set("Te", "trailers")
					}
					c := call(t, transport, r)
					proxytest.Eventually(t, r.URL.Path+" is at the application", func() bool { return app.begun.Load() > before })
					return c
				}
				var cut, stay []*longCall
				paths := []string{"/download", "/wait", "/upload/wait", "/upload/early"}
				if http2 {
					paths = append(paths, "/grpc")
				}
				for _, path := range paths {
					cut, stay = append(cut, begin("cut", path)), append(stay, begin("stay", path))
				}
				g.rule(tc.same)
				g.judged()
				if n := g.proxy.RequestsRevoked(); n != 0 {
					t.Errorf("got %d requests cut by a change that allows them", n)
				}
				g.rule(tc.after)
				for _, c := range cut {
					switch {
					case strings.HasSuffix(c.path, "/wait"):
						c.want(t, "403 policy-denied "+deniedText)
					case strings.HasSuffix(c.path, "/grpc"):
						c.want(t, "200 policy-denied7 begin")
					default:
						c.want(t, "200  begin cut")
					}
				}
				proxytest.Eventually(t, "the application sees the end", func() bool { return int(app.cut.Load()) == len(cut) })
				g.judged()
				if n := g.proxy.RequestsRevoked(); int(n) != len(cut) {
					t.Errorf("got %d requests cut, want %d", n, len(cut))
				}
				proxytest.Eventually(t, "the reasons in tap", func() bool { return g.tap.Count(tap.ResponseEnd, mesh.ReasonPolicyDenied) == len(cut) })
				app.end()
				for _, c := range stay {
					switch {
					case strings.HasSuffix(c.path, "/wait"):
						c.want(t, "200  end")
					case strings.HasSuffix(c.path, "/grpc"):
						c.want(t, "200 0 begin end")
					default:
						c.want(t, "200  begin end")
					}
				}
			})
		}
	}
}

// TestPolicyChangesCutUpgrades: an upgraded connection is a request under way.
func TestPolicyChangesCutUpgrades(t *testing.T) {
	app := newLongApp(t)
	g := guard(t, app.addr)
	paths := func(p string) *authz.Group {
		return allowRequests(authz.Operation{Paths: []authz.Match{{Kind: authz.Prefix, Value: p}}})
	}
	g.rule(paths("/"))
	cut, stay := upgraded(t, g.addr.String(), "/cut/ws"), upgraded(t, g.addr.String(), "/stay/ws")
	g.rule(paths("/stay/"))
	if _, err := io.ReadAll(cut.r); !is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
	proxytest.Eventually(t, "the reason in tap", func() bool { return g.tap.Count(tap.ResponseEnd, mesh.ReasonPolicyDenied) == 1 })
	stay.send("ping\n")
	stay.expect("ping\n")
}

// upgraded is a connection to addr that carries a WebSocket, of which the server returns what
// it gets.
func upgraded(t *testing.T, addr, path string) *client {
	t.Helper()
	c := dialTCP(t, addr)
	c.send("GET " + path + " HTTP/1.1\r\nHost: x\r\nX-Kind: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if resp, err := http.ReadResponse(c.r, nil); err != nil || resp.StatusCode != 101 {
		t.Fatal(err, resp)
	}
	c.send("ping\n")
	c.expect("ping\n")
	return c
}

// TestUnknownHeadsAreCut: a request whose head is not kept, because no policy looked at
// requests when it began, or because it is too large, ends when the decision depends on it. A
// change that concerns no decision cuts nothing.
func TestUnknownHeadsAreCut(t *testing.T) {
	open := allowRequests(authz.Operation{Paths: []authz.Match{{Kind: authz.Prefix, Value: "/"}}})
	gets := allowRequests(authz.Operation{Methods: []authz.Match{{Value: "GET"}}})
	for name, tc := range map[string]struct {
		before, same, after *authz.Group
		large               int
	}{
		"no policies before":      {nil, nil, gets, 0},
		"no requests looked at":   {allowFrom("127.0.0.0/8"), allowFrom("127.0.0.1/32"), gets, 0},
		"a head over the limit":   {open, open, gets, 20 << 10},
		"a head within the limit": {open, gets, nil, 10 << 10},
	} {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, http2=%v", name, http2), func(t *testing.T) {
				app := newLongApp(t)
				g := guard(t, app.addr)
				g.rule(tc.before)
				protocols := new(http.Protocols)
				protocols.SetHTTP1(!http2)
				protocols.SetUnencryptedHTTP2(http2)
				transport := &http.Transport{Protocols: protocols}
				defer transport.CloseIdleConnections()
				r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+g.addr.String()+"/download", nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("X-Large", strings.Repeat("x", tc.large))
				c := call(t, transport, r)
				proxytest.Eventually(t, "the request is at the application", func() bool { return app.begun.Load() == 1 })
				g.rule(tc.same)
				g.judged()
				if n := g.proxy.RequestsRevoked(); n != 0 {
					t.Errorf("got %d requests cut by a change that concerns no decision", n)
				}
				if tc.after == nil {
					app.end()
					c.want(t, "200  begin end")
					return
				}
				g.rule(tc.after)
				c.want(t, "200  begin cut")
			})
		}
	}
}
