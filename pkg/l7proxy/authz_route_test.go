package l7proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/l7proxy/proxytest"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/tap"
)

// asking returns a function that makes a request and returns what the client sees: the
// status, the reason, and the status of a gRPC call.
func (g *guardedPod) asking(http2 bool) func(path, contentType string) string {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetUnencryptedHTTP2(http2)
	transport := &http.Transport{Protocols: protocols}
	g.t.Cleanup(transport.CloseIdleConnections)
	return func(path, contentType string) string {
		g.t.Helper()
		r, err := http.NewRequestWithContext(g.t.Context(), http.MethodPost, "http://"+g.addr.String()+path, nil)
		if err != nil {
			g.t.Fatal(err)
		}
		if contentType != "" {
			r.Header.Set("Content-Type", contentType)
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			g.t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			g.t.Fatal(err)
		}
		return strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Underlane-Reason"), " ", resp.Header.Get("Grpc-Status")))
	}
}

// TestRequestsBelongToRoutes: the route of a request is found as it arrives, in both
// protocols; the policies of that route and those of the Server decide, and a request of no
// route is answered 404.
func TestRequestsBelongToRoutes(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			g := guard(t, webApp(t))
			ask := g.asking(http2)
			want := func(path, contentType, want string) {
				t.Helper()
				if got := ask(path, contentType); got != want {
					t.Errorf("%s %s: got %q, want %q", path, contentType, got, want)
				}
			}
			rule := func(matches ...mesh.RouteMatch) *mesh.Route {
				return &mesh.Route{Kind: "HTTPRoute", Rules: []mesh.RouteRule{{Matches: matches}}}
			}
			g.rule(&authz.Group{
				Name: "g", Routed: true, Routes: []authz.Route{
					{Name: "open", Match: rule(mesh.RouteMatch{Path: mesh.PathMatch{Value: "/open"}})},
					{Name: "shut", Match: rule(mesh.RouteMatch{Path: mesh.PathMatch{Kind: mesh.PathExact, Value: "/shut"}})},
				},
				Policies: []authz.Policy{{Name: "p", Action: authz.ActionAllow, Rules: []authz.Rule{{To: []authz.Operation{{Routes: []string{"open"}}}}}}},
			})
			want("/open/x?y", "", "200")
			want("/shut", "", "403 policy-denied")
			want("/none", "", "404 route-not-found")
			want("/open/../shut", "", "404 route-not-found")
			if http2 {
				want("/none", "application/grpc", "200 route-not-found 5")
			}
			proxytest.Eventually(t, "what no route has is in tap", func() bool { return g.tap.Count(tap.ResponseEnd, mesh.ReasonRouteNotFound) > 0 })
			g.rule(&authz.Group{Name: "g", Default: authz.ModeAllUnauthenticated, Routed: true, Routes: []authz.Route{{
				Name: "call", Match: &mesh.Route{GRPC: true, Rules: []mesh.RouteRule{{Matches: []mesh.RouteMatch{{GRPC: mesh.GRPCMethodMatch{Service: "s.S"}}}}}},
			}}})
			want("/s.S/m", "application/grpc", "200")
			if http2 {
				want("/s.T/m", "application/grpc", "200 route-not-found 5")
			}
		})
	}
}

// TestRequestsAreLimited: the limits of a policy count the requests to its port, and nothing
// that is not read as requests.
func TestRequestsAreLimited(t *testing.T) {
	open := &authz.Group{Name: "g", Default: authz.ModeAllUnauthenticated}
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", http2), func(t *testing.T) {
			g := guard(t, webApp(t))
			ask := g.asking(http2)
			// A burst of 2: within two seconds there are at most 4, and a test that is
			// slower lets all of them pass. So it asks until one is refused.
			refused := func(contentType string) string {
				for range 1000 {
					if got := ask("/", contentType); got != "200" {
						return got
					}
				}
				return "1000 requests"
			}
			for name, l := range map[string]authz.RateLimit{
				"total": {Policy: "p", Total: 2}, "identity": {Policy: "p", Identity: 2},
			} {
				g.rule(open, l)
				if got := refused(""); got != "429 rate-limited" {
					t.Errorf("%s: got %q, want 429", name, got)
				}
				if got := refused("application/grpc"); http2 && got != "200 rate-limited 8" {
					t.Errorf("%s, gRPC: got %q, want RESOURCE_EXHAUSTED", name, got)
				}
			}
			g.rule(open, authz.RateLimit{Policy: "p", Total: 1, Ports: []authz.PortRange{authz.Port(1)}})
			if got := refused(""); got != "1000 requests" {
				t.Errorf("a limit of another port: got %q", got)
			}
		})
	}
}
