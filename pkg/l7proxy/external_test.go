package l7proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// askedPod is a guarded pod, about whose requests below /ask an authorizer is asked.
type askedPod struct{ *guardedPod }

// asksAt makes policies hold that ask the authorizer, and then allow what more says.
func asksAt(t *testing.T, app string, authorizer http.HandlerFunc, change func(*mesh.ExternalAuth), more ...authz.Policy) *askedPod {
	t.Helper()
	g := guard(t, app)
	vip := netip.MustParseAddr("10.9.0.1")
	server := httptest.NewServer(authorizer)
	t.Cleanup(server.Close)
	toApp := g.proxy.upstream.Connect
	g.proxy.upstream.Connect = func(ctx context.Context, ep *upstream.Endpoint, client netip.AddrPort, alpn string) (conn.Conn, upstream.Result, error) {
		if ep.Peer.Addr == g.addr {
			return toApp(ctx, ep, client, alpn)
		}
		c, err := g.network.Dial(ctx, "", ep.Peer.Addr)
		if err != nil {
			return nil, ep.Expected(), mesh.Fail(mesh.ReasonConnectRefused, err)
		}
		return conn.Plain{Conn: c}, ep.Expected(), nil
	}
	e := mesh.ExternalAuth{
		Service: mesh.ServicePortRef{Namespace: "auth", Name: "bouncer", Port: 80}, Addrs: []netip.Addr{vip}, Timeout: time.Minute,
		UpstreamHeaders: mesh.FieldNames{"x-user"}, DenyHeaders: mesh.FieldNames{"*"}, RequestHeaders: mesh.FieldNames{"x-*"},
	}
	if change != nil {
		change(&e)
	}
	ask := authz.Policy{Name: "ask", Action: authz.ActionExternal, Provider: "bouncer", Rules: []authz.Rule{{To: []authz.Operation{{Paths: []authz.Match{{Kind: authz.Prefix, Value: "/ask"}}}}}}}
	rules, problems := authz.CompileWorkload(&authz.Spec{
		TrustDomain: "td", Authorizers: []authz.Authorizer{{Name: "bouncer", ExternalAuth: e}},
		Groups: []authz.Group{{Name: "g", Policies: append(more, ask), Default: authz.ModeAllUnauthenticated}},
	})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	w := *g.pod
	w.Authorized, w.RequestRules = true, true
	g.apply(state.Delta{Version: 1, Resources: []state.Resource{
		{Name: state.AuthzName(w.UID), Version: "1", Authz: &state.Authz{UID: w.UID, Rules: rules}},
		{Name: state.ServiceName("auth", "bouncer"), Version: "1", Service: &mesh.Service{
			Name: "bouncer", Namespace: "auth", VIPs: []netip.Addr{vip},
			Ports: []mesh.ServicePort{{Port: 80, Endpoints: []mesh.Endpoint{{Addr: netip.MustParseAddrPort(server.Listener.Addr().String()), Ready: true}}}},
		}},
	}}, &w, "1")
	return &askedPod{g}
}

func (p *askedPod) transport(http2 bool) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	transport := &http.Transport{Protocols: protocols}
	p.t.Cleanup(transport.CloseIdleConnections)
	return transport
}

// get returns the status, the reason and the body.
func (p *askedPod) get(ctx context.Context, transport *http.Transport, path string, fields ...string) string {
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+p.addr.String()+path, nil)
	if err != nil {
		return err.Error()
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Underlane-Reason"), " ", string(body)))
}

// userApp answers with the user that the request has, and its body.
func userApp(t *testing.T) string {
	t.Helper()
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %q %s", r.URL.Path, append(r.Header["X-User"], r.Header["X_user"]...), body)
	}))
	app.Config.Protocols = new(http.Protocols)
	app.Config.Protocols.SetHTTP1(true)
	app.Config.Protocols.SetUnencryptedHTTP2(true)
	app.Start()
	t.Cleanup(app.Close)
	return app.Listener.Addr().String()
}

// TestForgedFieldIsJudgedAnew: policies judge the fields that the authorizer has set, and not
// those that the client has made up.
func TestForgedFieldIsJudgedAnew(t *testing.T) {
	admin := authz.Policy{Name: "admin", Action: authz.ActionAllow, Rules: []authz.Rule{{When: []authz.Condition{{Kind: authz.ConditionHeader, Name: "x-user", Values: []authz.Match{{Value: "admin"}}}}}}}
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			p := asksAt(t, userApp(t), func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-User", r.Header.Get("X-Who"))
			}, nil, admin)
			transport := p.transport(http2)
			const denied = "403 policy-denied the server's policy does not allow this client"
			for _, c := range []struct{ path, also, who, want string }{
				{"/ask", "X-Other", "admin", `200  /ask ["admin"]`},
				{"/ask", "X-Other", "bob", denied},
				{"/ask", "X_User", "bob", denied},
				{"/ask", "X_User", "admin", denied}, // it is not asked about what is denied as it comes
			} {
				if got := p.get(t.Context(), transport, c.path, "X-User", "admin", c.also, "root", "X-Who", c.who); got != c.want {
					t.Errorf("%s as %s, %s: got %q, want %q", c.path, c.who, c.also, got, c.want)
				}
			}
		})
	}
}

// TestSlowAuthorizerHoldsNothing: other requests of the same connection go on while an
// authorizer is asked about one, and a client that goes away leaves nothing behind.
func TestSlowAuthorizerHoldsNothing(t *testing.T) {
	release := make(chan struct{})
	p := asksAt(t, userApp(t), func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}, nil)
	transport := p.transport(true)
	answers := make(chan string, 1)
	go func() { answers <- p.get(t.Context(), transport, "/ask") }()
	asking := func(n int) {
		t.Helper()
		proxytest.Eventually(t, fmt.Sprint(n, " questions are under way"), func() bool { return p.proxy.core.Authorizers.Asking() == n })
	}
	asking(1)
	if got := p.get(t.Context(), transport, "/free"); got != "200  /free []" {
		t.Errorf("beside it: got %q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan string, 1)
	go func() { gone <- p.get(ctx, transport, "/ask") }()
	asking(2)
	cancel()
	<-gone
	proxytest.Eventually(t, "the stream of the client that has gone ends", func() bool { return p.proxy.h2.Stats().Streams == 1 })
	close(release)
	if got := <-answers; got != "200  /ask []" {
		t.Errorf("in the end: got %q", got)
	}
	asking(0)
}

// TestTooManyQuestions: what is over the limit of a pod is refused, though the authorizer is
// to fail open.
func TestTooManyQuestions(t *testing.T) {
	release := make(chan struct{})
	p := asksAt(t, userApp(t), func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}, func(e *mesh.ExternalAuth) { e.FailOpen = true })
	transport := p.transport(true)
	const most = 256
	answers := make(chan string, most)
	for range most {
		go func() { answers <- p.get(t.Context(), transport, "/ask") }()
	}
	proxytest.Eventually(t, "as many questions as there may be", func() bool { return p.proxy.core.Authorizers.Asking() == most })
	if got := p.get(t.Context(), transport, "/ask"); !strings.HasPrefix(got, "503 overload ") {
		t.Errorf("one more: got %q, want 503", got)
	}
	close(release)
	for range most {
		if got := <-answers; got != "200  /ask []" {
			t.Fatalf("got %q", got)
		}
	}
	if n := p.proxy.Checks()[request.CheckAllowed].Buckets; sum(n[:]) != most {
		t.Errorf("counted %v, want %d", n, most)
	}
}

func sum(all []uint64) (out uint64) {
	for _, n := range all {
		out += n
	}
	return out
}

// TestBodyForAuthorizer: bytes that arrive with the end of a body belong to the next request.
func TestBodyForAuthorizer(t *testing.T) {
	p := asksAt(t, userApp(t), func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-User", string(bytes.ToUpper(body)))
	}, func(e *mesh.ExternalAuth) { e.MaxBody = 10 })
	c, err := net.Dial("tcp", p.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	say := func(text, want string) {
		t.Helper()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		if want == "" {
			return
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if got := fmt.Sprint(resp.StatusCode, " ", string(body)); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", text, got, err, want)
		}
	}
	say("POST /ask/1 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", "100 ")
	say("ab", "")
	proxytest.Eventually(t, "the head was read", func() bool { return p.proxy.core.Authorizers.Asking() == 0 })
	say("cdPOST /ask/2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ne", `200 /ask/1 ["ABCD"] abcd`)
	say("f\r\n0\r\n\r\nGET /free HTTP/1.1\r\nHost: x\r\n\r\n", `200 /ask/2 ["EF"] ef`)
	say("", `200 /free [] `)
	say("POST /ask/3 HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n01234567890", "413 the external authorizer could not be asked: the body is too large for it\n")
	e := p.tap.Wait(t, tap.ResponseEnd, 3)
	if e.Reason != mesh.ReasonExternalUnavailable || e.Status != 413 {
		t.Errorf("in tap: %v %v", e.Reason, e.Status)
	}
}
