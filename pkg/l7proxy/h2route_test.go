package l7proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// h2apex is a client of the service apex: do sends a request for svc on the one
// connection.
type h2apex struct {
	t    testing.TB
	http *http.Client
	base string
}

func (s *shop) h2apex() *h2apex {
	s.t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
	tr.Protocols.SetUnencryptedHTTP2(true)
	s.t.Cleanup(tr.CloseIdleConnections)
	return &h2apex{
		t: s.t, base: "http://" + s.to(s.services["apex"].String()),
		http: &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

func (c *h2apex) request(method, path string, body io.Reader) *http.Request {
	c.t.Helper()
	req, err := http.NewRequest(method, c.base+path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Host = "svc"
	req.Header.Set("X-Ask", "client")
	return req
}

func (c *h2apex) do(method, path string, body io.Reader) (*http.Response, string) {
	c.t.Helper()
	resp, err := c.http.Do(c.request(method, path, body))
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, string(got)
}

// h2handler adds a service whose one endpoint is an HTTP/2 server.
func (s *shop) h2handler(t *testing.T, name string, h http.HandlerFunc) {
	addr, _ := serveH2C(t, h)
	s.service(name, addr)
}

func pathRule(path string, kind mesh.PathMatchKind, r mesh.RouteRule) mesh.RouteRule {
	r.Matches = []mesh.RouteMatch{{Path: mesh.PathMatch{Kind: kind, Value: path}}}
	if r.Backends == nil {
		r.Backends = []mesh.RouteBackend{to("blue", 1)}
	}
	return r
}

func TestH2Routes(t *testing.T) {
	s := newShop(t)
	s.h2handler(t, "apex", says("apex"))
	s.h2handler(t, "blue", says("blue"))
	s.service("empty")
	blue := to("blue", 1)
	blue.Filters.RequestHeaders = &mesh.HeaderModifier{Set: []mesh.HeaderField{{Name: "X-Ask", Value: "backend"}}}
	removed := &mesh.HeaderModifier{Remove: []string{"X-Ask", "X-From"}}
	rule := pathRule
	s.route(
		rule("/blue", mesh.PathPrefix, mesh.RouteRule{}),
		rule("/edited", mesh.PathPrefix, mesh.RouteRule{
			Filters: mesh.RouteFilters{
				RequestHeaders:  &mesh.HeaderModifier{Set: []mesh.HeaderField{{Name: "x-ask", Value: "rule"}}},
				ResponseHeaders: &mesh.HeaderModifier{Set: []mesh.HeaderField{{Name: "X-From", Value: "route"}}, Add: []mesh.HeaderField{{Name: "X-Also", Value: "1"}}},
				Rewrite:         &mesh.RouteRewrite{Hostname: "new.example", Path: mesh.PathRewrite{Kind: mesh.PathReplacePrefix, Value: "/new"}},
			},
		}),
		rule("/removed", mesh.PathExact, mesh.RouteRule{Filters: mesh.RouteFilters{RequestHeaders: removed, ResponseHeaders: removed}}),
		rule("/backend", mesh.PathExact, mesh.RouteRule{Backends: []mesh.RouteBackend{blue}}),
		rule("/elsewhere", mesh.PathPrefix, mesh.RouteRule{Filters: mesh.RouteFilters{
			Redirect: &mesh.RouteRedirect{Status: 308, Hostname: "there.example", Port: 8443, Scheme: "https"},
		}}),
		rule("/none", mesh.PathExact, mesh.RouteRule{Backends: []mesh.RouteBackend{to("missing", 1)}}),
		rule("/invalid", mesh.PathExact, mesh.RouteRule{Backends: []mesh.RouteBackend{{Weight: 1, Invalid: "no such Service"}}}),
		rule("/empty", mesh.PathExact, mesh.RouteRule{Backends: []mesh.RouteBackend{to("empty", 1)}}),
		rule("/fault", mesh.PathExact, mesh.RouteRule{Filters: mesh.RouteFilters{Fault: &mesh.RouteFault{AbortStatus: 418}}}),
		rule("/fault204", mesh.PathExact, mesh.RouteRule{Filters: mesh.RouteFilters{Fault: &mesh.RouteFault{AbortStatus: 204}}}),
	)
	c := s.h2apex()
	for i, tt := range []struct {
		path   string
		status int
		body   string
		reason mesh.Reason
		fields map[string]string
	}{
		{"/blue/x?q", 200, "blue GET svc/blue/x?q client", 0, map[string]string{"X-From": "blue"}},
		{"/edited/x?q", 200, "blue GET new.example/new/x?q rule", 0, map[string]string{"X-From": "route", "X-Also": "1"}},
		{"/removed", 200, "blue GET svc/removed ", 0, map[string]string{"X-From": ""}},
		{"/backend", 200, "blue GET svc/backend backend", 0, nil},
		{"/elsewhere/a", 308, "", 0, map[string]string{"Location": "https://there.example:8443/elsewhere/a"}},
		{"/nowhere", 404, mesh.ReasonNoRoute.Text() + "\n", mesh.ReasonNoRoute, nil},
		{"/none", 500, mesh.ReasonBadBackend.Text() + "\n", mesh.ReasonBadBackend, nil},
		{"/invalid", 500, mesh.ReasonBadBackend.Text() + "\n", mesh.ReasonBadBackend, nil},
		{"/empty", 503, mesh.ReasonNoEndpoints.Text() + "\n", mesh.ReasonNoEndpoints, nil},
		{"/fault", 418, mesh.ReasonFault.Text() + "\n", mesh.ReasonFault, nil},
		{"/fault204", 204, "", mesh.ReasonFault, nil},
		{"/blue", 200, "blue GET svc/blue client", 0, nil},
	} {
		resp, body := c.do("GET", tt.path, nil)
		if d := cmp.Diff(tt.body, body); resp.StatusCode != tt.status || d != "" || resp.Header.Get("Underlane-Reason") != tt.reason.String() {
			t.Errorf("%s: %d %q\n%s", tt.path, resp.StatusCode, resp.Header.Get("Underlane-Reason"), d)
		}
		for name, want := range tt.fields {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", tt.path, name, got, want)
			}
		}
		ev := s.tap.Wait(t, tap.ResponseEnd, i)
		if ev.Status != tt.status || ev.Reason != tt.reason || (ev.Route != nil) != (tt.reason != mesh.ReasonNoRoute) {
			t.Errorf("%s: tap has status %d, reason %v, route %v", tt.path, ev.Status, ev.Reason, ev.Route)
		}
	}
	// A later route holds for the same connection.
	s.route()
	if _, body := c.do("GET", "/nowhere", nil); !strings.HasPrefix(body, "apex GET svc/nowhere") {
		t.Errorf("without rules: %q", body)
	}
}

func TestH2Weights(t *testing.T) {
	s := newShop(t)
	s.h2handler(t, "apex", says("apex"))
	s.h2handler(t, "blue", says("blue"))
	s.h2handler(t, "green", says("green"))
	s.route(mesh.RouteRule{Backends: []mesh.RouteBackend{to("blue", 9), to("green", 1), to("apex", 0)}})
	c := s.h2apex()
	got := map[string]int{}
	const n = 1000
	for range n {
		resp, _ := c.do("GET", "/", nil)
		got[resp.Header.Get("X-From")]++
	}
	if got["blue"]+got["green"] != n || got["green"] < 50 || got["green"] > 160 { // 100 ± 9.5: five deviations
		t.Errorf("%v of %d, want nine to one", got, n)
	}
}

// TestH2Delay: a request that a fault delays keeps what comes of its body, and
// holds nobody else up.
func TestH2Delay(t *testing.T) {
	var arrived atomic.Int64
	s := newShop(t)
	s.h2handler(t, "apex", func(w http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	delayed := func(d time.Duration, abort int) mesh.RouteRule {
		return mesh.RouteRule{
			Filters:  mesh.RouteFilters{Fault: &mesh.RouteFault{Delay: d, AbortStatus: abort}},
			Backends: []mesh.RouteBackend{to("apex", 1)},
		}
	}
	s.route(
		pathRule("/slow", mesh.PathExact, delayed(300*time.Millisecond, 0)),
		pathRule("/fails", mesh.PathExact, delayed(100*time.Millisecond, 500)),
		pathRule("/never", mesh.PathExact, delayed(5*time.Minute, 0)),
		pathRule("/", mesh.PathPrefix, mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}}),
	)
	c := s.h2apex()
	c.do("GET", "/", nil) // the connection is there
	began := time.Now()
	slow := make(chan time.Duration, 1)
	go func() {
		resp, err := c.http.Do(c.request("POST", "/slow", proxytest.NewPattern(600<<10))) // more than a window
		if err != nil {
			t.Error(err)
			slow <- 0
			return
		}
		defer resp.Body.Close()
		if body, _ := io.ReadAll(resp.Body); string(body) != fmt.Sprint(600<<10) {
			t.Errorf("got %d %q, want the size of the upload, %d", resp.StatusCode, body, 600<<10)
		}
		slow <- time.Since(began)
	}()
	if _, body := c.do("POST", "/", strings.NewReader("fast")); body != "4" {
		t.Errorf("got %q, want \"4\"", body)
	}
	if took := <-slow; took < 300*time.Millisecond {
		t.Errorf("took %v, want 300ms at least", took)
	}
	began = time.Now()
	if resp, _ := c.do("GET", "/fails", nil); resp.StatusCode != 500 || time.Since(began) < 100*time.Millisecond {
		t.Errorf("%d after %v", resp.StatusCode, time.Since(began))
	}

	before := arrived.Load()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sent := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { time.AfterFunc(50*time.Millisecond, cancel) }}
	resp, err := c.http.Do(c.request("GET", "/never", nil).WithContext(httptrace.WithClientTrace(ctx, sent)))
	if err == nil {
		resp.Body.Close()
		t.Errorf("answered %d", resp.StatusCode)
	}
	for i := 0; ; i++ { // its ResponseEnd is one of the first five
		ev := s.tap.Wait(t, tap.ResponseEnd, i)
		if ev.Path == "/never" {
			if ev.Reason != mesh.ReasonClientReset || !ev.Reset {
				t.Errorf("%v, reset %v", ev.Reason, ev.Reset)
			}
			break
		}
	}
	if got := arrived.Load(); got != before {
		t.Errorf("%d requests came to the server after it was cancelled", got-before)
	}
}

// grpcAnswers is a server whose every method is h.
func grpcAnswers(t *testing.T, h func(s grpc.ServerStream) error) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error { return h(s) }))
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	return l.Addr().String()
}

// echoes answers each message with it.
func echoes(s grpc.ServerStream) error {
	for {
		m := new(wrapperspb.StringValue)
		if err := s.RecvMsg(m); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
}

func (s *shop) grpcApex() *grpc.ClientConn {
	s.t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+s.to(s.services["apex"].String()),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(), grpc.WithAuthority("svc"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cc.Close() })
	return cc
}

// grpcRoute makes rules hold for the gRPC calls to the service named apex.
func (s *shop) grpcRoute(rules ...mesh.RouteRule) {
	s.t.Helper()
	r := &mesh.Route{
		GRPC: true, Kind: "GRPCRoute", Namespace: "shop", Name: "g",
		Parent: mesh.ServicePortRef{Namespace: "shop", Name: "apex"}, Rules: rules,
	}
	s.apply(state.Resource{Name: state.RouteName(r), Route: r})
}

func methodRule(method string, r mesh.RouteRule) mesh.RouteRule {
	r.Matches = []mesh.RouteMatch{{GRPC: mesh.GRPCMethodMatch{Service: "t.T", Method: method}}}
	if r.Backends == nil {
		r.Backends = []mesh.RouteBackend{to("blue", 1)}
	}
	return r
}

func TestH2GRPCRoutes(t *testing.T) {
	s := newShop(t)
	s.service("apex", grpcAnswers(t, echoes))
	var asked atomic.Value
	s.service("blue", grpcAnswers(t, func(s grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(s.Context())
		asked.Store(strings.Join(md.Get("x-ask"), ","))
		if len(md.Get("x-fail")) > 0 {
			return status.Error(codes.FailedPrecondition, "as you like")
		}
		return echoes(s)
	}))
	edited := mesh.RouteFilters{
		RequestHeaders:  &mesh.HeaderModifier{Add: []mesh.HeaderField{{Name: "X-Ask", Value: "rule"}}},
		ResponseHeaders: &mesh.HeaderModifier{Set: []mesh.HeaderField{{Name: "X-From", Value: "route"}}},
	}
	fault := func(f mesh.RouteFault) mesh.RouteFilters { return mesh.RouteFilters{Fault: &f} }
	s.grpcRoute(
		methodRule("Edited", mesh.RouteRule{Filters: edited}),
		methodRule("None", mesh.RouteRule{Backends: []mesh.RouteBackend{to("missing", 1)}}),
		methodRule("Fault", mesh.RouteRule{Filters: fault(mesh.RouteFault{AbortGRPC: 7})}),
		methodRule("Slow", mesh.RouteRule{Filters: fault(mesh.RouteFault{Delay: 5 * time.Minute}), Timeouts: mesh.RouteTimeouts{Request: 100 * time.Millisecond}}),
	)
	cc := s.grpcApex()
	for i, tt := range []struct {
		method string
		fail   bool
		code   codes.Code
		reason mesh.Reason
		from   string
	}{
		{"Edited", false, codes.OK, 0, "route"},
		{"Edited", true, codes.FailedPrecondition, 0, "route"}, // trailers only
		{"None", false, codes.Unavailable, mesh.ReasonBadBackend, ""},
		{"Other", false, codes.Unimplemented, mesh.ReasonNoRoute, ""},
		{"Fault", false, codes.PermissionDenied, mesh.ReasonFault, ""},
		{"Slow", false, codes.DeadlineExceeded, mesh.ReasonTimeout, ""},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		ctx = metadata.AppendToOutgoingContext(ctx, "x-ask", "client")
		if tt.fail {
			ctx = metadata.AppendToOutgoingContext(ctx, "x-fail", "yes")
		}
		var header, trailer metadata.MD
		out := new(wrapperspb.StringValue)
		err := cc.Invoke(ctx, "/t.T/"+tt.method, wrapperspb.String("hello"), out, grpc.Header(&header), grpc.Trailer(&trailer))
		cancel()
		if status.Code(err) != tt.code || err == nil && out.Value != "hello" {
			t.Errorf("%s: %v %q", tt.method, err, out.Value)
		}
		if tt.reason != mesh.ReasonNone && status.Convert(err).Message() != tt.reason.Text() {
			t.Errorf("%s: %v", tt.method, err)
		}
		if got := strings.Join(append(header.Get("x-from"), trailer.Get("x-from")...), ","); tt.from != "" && got != tt.from {
			t.Errorf("%s: x-from is %q", tt.method, got)
		}
		if tt.method == "Edited" && asked.Load() != "client,rule" {
			t.Errorf("%s: the server saw %v", tt.method, asked.Load())
		}
		ev := s.tap.Wait(t, tap.ResponseEnd, i)
		if ev.GRPCStatus != int(tt.code) || ev.Reason != tt.reason || ev.Status != 200 && tt.reason == mesh.ReasonNone {
			t.Errorf("%s: tap has %d, status %d, reason %v", tt.method, ev.GRPCStatus, ev.Status, ev.Reason)
		}
	}
}

// TestH2CallsUnderHTTPRoutes: without gRPC routes calls go by the others.
func TestH2CallsUnderHTTPRoutes(t *testing.T) {
	s := newShop(t)
	s.service("apex", grpcAnswers(t, func(grpc.ServerStream) error { return status.Error(codes.Internal, "not here") }))
	s.service("blue", grpcAnswers(t, echoes))
	s.route(
		pathRule("/t.T/Moved", mesh.PathExact, mesh.RouteRule{Filters: mesh.RouteFilters{Redirect: &mesh.RouteRedirect{Status: 301, Hostname: "there.example"}}}),
		pathRule("/t.T", mesh.PathPrefix, mesh.RouteRule{}),
	)
	cc := s.grpcApex()
	if got, err := unary(cc, "hello"); got != "hello" || err != nil {
		t.Errorf("got %q %v, want \"hello\"", got, err)
	}
	err := cc.Invoke(t.Context(), "/t.T/Moved", wrapperspb.String(""), new(wrapperspb.StringValue))
	if ev := s.tap.Wait(t, tap.ResponseEnd, 1); status.Code(err) != codes.Unknown || ev.Status != 301 || ev.GRPCStatus != 2 {
		t.Errorf("%v; tap has status %d, gRPC status %d", err, ev.Status, ev.GRPCStatus)
	}
}
