package l7proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/listener"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// guardedPod is a pod with authorization policies, and clients outside the mesh.
type guardedPod struct {
	*env
	pod     *mesh.Workload
	addr    netip.AddrPort
	version int
}

// guard serves connections to a pod, whose application is at app.
func guard(t *testing.T, app string) *guardedPod {
	t.Helper()
	g := &guardedPod{env: newEnv(t)}
	l := proxytest.Listen(t)
	g.addr = l.Addr()
	g.pod = &mesh.Workload{UID: "pod", Name: "pod", Node: "node-1", Meshed: true, Addrs: []netip.Addr{g.addr.Addr()}}
	g.proxy.upstream.Connect = func(ctx context.Context, ep *upstream.Endpoint, _ netip.AddrPort, _ string) (conn.Conn, upstream.Result, error) {
		c, err := g.network.Dial(ctx, "", mustAddr(app))
		if err != nil {
			return nil, ep.Expected(), mesh.Fail(mesh.ReasonConnectRefused, err)
		}
		return conn.Plain{Conn: c}, ep.Expected(), nil
	}
	g.group.ServeInTurn(l, listener.Manner{}, func(c *rawio.Conn) listener.Rest { return g.proxy.ServeInbound(c, g.pod) })
	return g
}

// rule puts one group in force; nil: the pod has no policies.
func (g *guardedPod) rule(group *authz.Group, limits ...authz.RateLimit) {
	g.t.Helper()
	g.version++
	version := fmt.Sprint(g.version)
	w := *g.pod
	delta := state.Delta{Version: uint64(g.version), Removed: []string{state.AuthzName(w.UID)}}
	if group != nil {
		rules, problems := authz.CompileWorkload(&authz.Spec{TrustDomain: "td", Groups: []authz.Group{*group}, RateLimits: limits})
		if len(problems) > 0 {
			g.t.Fatal(problems)
		}
		w.Authorized, w.RequestRules = true, rules.NeedsRequests(0)
		delta.Removed = nil
		delta.Resources = append(delta.Resources, state.Resource{Name: state.AuthzName(w.UID), Version: version, Authz: &state.Authz{UID: w.UID, Rules: rules}})
	}
	g.apply(delta, &w, version)
}

func (g *guardedPod) apply(delta state.Delta, w *mesh.Workload, version string) {
	g.t.Helper()
	delta.Resources = append(delta.Resources, state.Resource{Name: state.WorkloadName(w.UID), Version: version, Workload: w})
	if err := g.store.Apply(delta); err != nil {
		g.t.Fatal(err)
	}
}

// judged waits until open connections were judged by the newest state.
func (g *guardedPod) judged() {
	g.t.Helper()
	proxytest.Eventually(g.t, "open connections are judged", func() bool { return g.proxy.judged.Load() == g.store.View().Version() })
}

func allowRequests(to authz.Operation) *authz.Group {
	return &authz.Group{Name: "g", Policies: []authz.Policy{{Name: "p", Action: authz.ActionAllow, Rules: []authz.Rule{{To: []authz.Operation{to}}}}}}
}

func allowFrom(network string) *authz.Group {
	return &authz.Group{Name: "g", Policies: []authz.Policy{{Name: "p", Action: authz.ActionAllow, Rules: []authz.Rule{{
		From: []authz.Source{{Networks: []authz.Network{{CIDR: netip.MustParsePrefix(network)}}}},
	}}}}}
}

func webApp(t *testing.T) string {
	t.Helper()
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	app.Config.Protocols = new(http.Protocols)
	app.Config.Protocols.SetHTTP1(true)
	app.Config.Protocols.SetUnencryptedHTTP2(true)
	app.Start()
	t.Cleanup(app.Close)
	return app.Listener.Addr().String()
}

// TestRequestsAreAuthorized: each request is judged by the policies of its moment, in both
// protocols and on the same connection.
func TestRequestsAreAuthorized(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			g := guard(t, webApp(t))
			protocols := new(http.Protocols)
			protocols.SetHTTP1(!http2)
			protocols.SetUnencryptedHTTP2(http2)
			transport := &http.Transport{Protocols: protocols}
			defer transport.CloseIdleConnections()
			ask := func(method, path, contentType string, fields ...string) string {
				t.Helper()
				r, err := http.NewRequestWithContext(t.Context(), method, "http://"+g.addr.String()+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				if contentType != "" {
					r.Header.Set("Content-Type", contentType)
				}
				for i := 0; i < len(fields); i += 2 {
					r.Header.Add(fields[i], fields[i+1])
				}
				resp, err := transport.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Fatal(err)
				}
				return strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Underlane-Reason"), " ", resp.Header.Get("Grpc-Status")))
			}
			want := func(want, method, path string, more ...string) {
				t.Helper()
				contentType := ""
				if len(more) > 0 {
					contentType, more = more[0], more[1:]
				}
				if got := ask(method, path, contentType, more...); got != want {
					t.Errorf("%s %s %q: got %q, want %q", method, path, more, got, want)
				}
			}
			g.rule(nil)
			want("200", "POST", "/b")
			g.rule(allowRequests(authz.Operation{Methods: []authz.Match{{Value: "GET"}}, Paths: []authz.Match{{Value: "/a"}}}))
			want("200", "GET", "/a")
			want("200", "GET", "/a?x=1")
			want("403 policy-denied", "GET", "/b")
			want("403 policy-denied", "POST", "/a")
			if http2 {
				want("200 policy-denied 7", "POST", "/s.S/m", "application/grpc")
			}
			g.rule(&authz.Group{Name: "g", Policies: []authz.Policy{{Name: "p", Action: authz.ActionAllow, Rules: []authz.Rule{{
				When: []authz.Condition{{Kind: authz.ConditionHeader, Name: "x-who", Values: []authz.Match{{Value: "me"}}}},
			}}}}})
			want("200", "GET", "/b", "", "X-Who", "me")
			want("403 policy-denied", "GET", "/b", "", "X-Who", "you")
			want("403 policy-denied", "GET", "/b", "", "X-Who", "me", "X-Who", "you")
			if !http2 { // a field that the application does not get
				want("403 policy-denied", "GET", "/b", "", "X-Who", "me", "Connection", "x-who")
			}
			want("403 policy-denied", "GET", "/b")
			g.rule(allowFrom("127.0.0.0/8"))
			want("200", "POST", "/b")
			g.rule(&authz.Group{Name: "default", Default: authz.ModeAudit})
			want("200", "POST", "/b")
			if n := g.proxy.PolicyAudited(); n != 1 {
				t.Errorf("got %d reported, want 1", n)
			}
			if n := g.tap.Count(tap.ResponseEnd, mesh.ReasonPolicyDenied); n < 5 {
				t.Errorf("got %d refused requests in tap, want 5 or more", n)
			}
			g.pod.Authorized = true // and the agent does not have its policies
			g.rule(nil)
			want("403 policy-denied", "GET", "/a")
		})
	}
}

// TestOpaqueIsAuthorized: bytes that are not read as requests are judged as a connection, and
// are refused where requests have to be judged.
func TestOpaqueIsAuthorized(t *testing.T) {
	echo := serveConns(t, func(nc net.Conn) { io.Copy(nc, nc) })
	for name, tc := range map[string]struct {
		group *authz.Group
		first string
		want  bool
	}{
		"no policies":       {nil, "\x00hello\n", true},
		"allowed":           {allowFrom("127.0.0.0/8"), "\x00hello\n", true},
		"denied":            {allowFrom("10.0.0.0/8"), "\x00hello\n", false},
		"rules on requests": {allowRequests(authz.Operation{Methods: []authz.Match{{Value: "GET"}}}), "\x00hello\n", false},
		"it looks like a request, and is none": {
			allowRequests(authz.Operation{Methods: []authz.Match{{Value: "GET"}}}), "GET /\r\n", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := guard(t, echo)
			g.rule(tc.group)
			c := dialTCP(t, g.addr.String())
			c.send(tc.first)
			got := make([]byte, len(tc.first))
			_, err := io.ReadFull(c.r, got)
			if (err == nil && string(got) == tc.first) != tc.want {
				t.Errorf("got %q, %v; want an answer of the application: %v", got, err, tc.want)
			}
			if !tc.want && strings.HasPrefix(tc.first, "\x00") {
				if e := g.tap.Wait(t, tap.ConnClose, 0); e.Reason != mesh.ReasonPolicyDenied {
					t.Errorf("got reason %q in tap, want %q", e.Reason, mesh.ReasonPolicyDenied)
				}
			}
		})
	}
}

// TestSilentConnectionsAreJudged: a client that was let in and says nothing is judged by the
// policies of the moment in which it says something.
func TestSilentConnectionsAreJudged(t *testing.T) {
	for name, tc := range map[string]struct {
		after *authz.Group
		want  bool
	}{
		"still allowed":     {allowFrom("127.0.0.1/32"), true},
		"denied":            {allowFrom("10.0.0.0/8"), false},
		"rules on requests": {allowRequests(authz.Operation{Methods: []authz.Match{{Value: "GET"}}}), false},
	} {
		t.Run(name, func(t *testing.T) {
			var accepted atomic.Int32
			g := guard(t, serveConns(t, func(nc net.Conn) { accepted.Add(1); io.Copy(nc, nc) }))
			g.rule(nil)
			c := dialTCP(t, g.addr.String())
			proxytest.Eventually(t, "the application is connected to", func() bool { return accepted.Load() > 0 })
			g.rule(tc.after)
			g.judged()
			c.send("\x00hello\n")
			got := make([]byte, 7)
			if _, err := io.ReadFull(c.r, got); (err == nil) != tc.want {
				t.Errorf("got %q, %v; want an answer of the application: %v", got, err, tc.want)
			}
			if !tc.want {
				if e := g.tap.Wait(t, tap.ConnClose, 0); e.Reason != mesh.ReasonPolicyDenied {
					t.Errorf("got reason %q in tap, want %q", e.Reason, mesh.ReasonPolicyDenied)
				}
			}
		})
	}
}

// TestPolicyChangesCutConnections: what is open and not allowed any more is cut within
// moments, with the reason; what is allowed stays.
func TestPolicyChangesCutConnections(t *testing.T) {
	const upgrade = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	const accepted = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	app := serveConns(t, func(nc net.Conn) {
		r := bufio.NewReader(nc)
		if first, err := r.Peek(1); err != nil || first[0] != 'G' {
			io.Copy(nc, r)
			return
		}
		if _, err := http.ReadRequest(r); err == nil {
			io.WriteString(nc, accepted)
			io.Copy(nc, r)
		}
	})
	for name, before := range map[string]*authz.Group{"no policies before": nil, "allowed before": allowFrom("127.0.0.0/8")} {
		for kind, first := range map[string]string{"opaque": "\x00hello\n", "upgraded": upgrade} {
			t.Run(kind+", "+name, func(t *testing.T) {
				g := guard(t, app)
				g.rule(before)
				c := dialTCP(t, g.addr.String())
				c.send(first)
				if kind == "opaque" {
					c.expect(first)
				} else if resp, err := http.ReadResponse(c.r, nil); err != nil || resp.StatusCode != 101 {
					t.Fatal(err, resp)
				}
				ping := func() {
					t.Helper()
					c.send("ping\n")
					c.expect("ping\n")
				}
				ping()
				cut := g.proxy.PolicyRevoked()
				g.judged()
				ping()
				g.rule(allowFrom("127.0.0.1/32"))
				g.judged()
				ping()
				if n := g.proxy.PolicyRevoked(); n != cut {
					t.Errorf("got %d cut, want none: the client is still allowed", n-cut)
				}
				g.rule(allowFrom("10.0.0.0/8"))
				began := time.Now()
				if _, err := io.ReadAll(c.r); !is(err, syscall.ECONNRESET) {
					t.Errorf("got %v, want a reset", err)
				}
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("cut after %v, want about a second", took)
				}
				proxytest.Eventually(t, "the reason in tap", func() bool {
					return g.tap.Count(tap.ConnClose, mesh.ReasonPolicyDenied)+g.tap.Count(tap.ResponseEnd, mesh.ReasonPolicyDenied) > 0
				})
			})
		}
	}
}

// TestJudgedCalls: events name what decided, and the calls are remembered with it. A pod
// without policies leaves no trace.
func TestJudgedCalls(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			g := guard(t, webApp(t))
			store := calls.New(time.Now)
			g.proxy.directory.Calls = store
			protocols := new(http.Protocols)
			protocols.SetHTTP1(!http2)
			protocols.SetUnencryptedHTTP2(http2)
			transport := &http.Transport{Protocols: protocols}
			defer transport.CloseIdleConnections()
			for i, tc := range []struct {
				group *authz.Group
				want  string // verdict, object and rule
			}{
				{nil, ""},
				{&authz.Group{Name: "g", Policies: []authz.Policy{{Name: "p", Action: authz.ActionAllow, Rules: []authz.Rule{{Name: "r"}}}}}, "allowed p r"},
				{&authz.Group{Name: authz.DefaultGroup, Default: authz.ModeAudit}, "audited default audit "},
				{&authz.Group{Name: "Server.x a/b"}, "denied Server.x a/b "},
				{&authz.Group{Name: "g", Policies: []authz.Policy{{Name: "no", Action: authz.ActionDeny, Rules: []authz.Rule{{To: []authz.Operation{{Methods: []authz.Match{{Value: "GET"}}}}}}}}}, "denied no 1"},
			} {
				g.rule(tc.group)
				r, err := http.NewRequestWithContext(t.Context(), "GET", fmt.Sprintf("http://%s/x/%d", g.addr, i), nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := transport.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				e := g.tap.Wait(t, tap.ResponseEnd, i)
				got := ""
				if e.Judged != nil {
					f := e.Judged.Finding
					got = f.Verdict() + " " + f.Object + " " + f.Rule
				}
				if got != tc.want {
					t.Errorf("%d: the event says %q, want %q", i, got, tc.want)
				}
			}
			list := store.List(time.Minute, func(*mesh.Workload) bool { return true })
			if len(list.Calls) != 4 {
				t.Errorf("got %d kinds of calls, want 4: %+v", len(list.Calls), list.Calls)
			}
			for _, c := range list.Calls {
				if c.Method != "GET" || c.Path != "/x/{*}" || c.Port != g.addr.Port() || c.Calls != 1 || !c.From.IsLoopback() {
					t.Errorf("got %+v", c)
				}
			}
		})
	}
}
