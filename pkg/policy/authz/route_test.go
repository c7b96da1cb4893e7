package authz

import (
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
)

func routeOf(name string, matches ...mesh.RouteMatch) Route {
	return Route{Name: name, Match: &mesh.Route{Kind: "HTTPRoute", Namespace: "n", Name: name, Rules: []mesh.RouteRule{{Matches: matches}}}}
}

func prefixOf(path string) mesh.RouteMatch { return mesh.RouteMatch{Path: mesh.PathMatch{Value: path}} }

// routed is a group with the routes public and admin. Everybody may use public, and those of
// the namespace web everything.
func routed() *Spec {
	admin := prefixOf("/admin")
	admin.Headers = []mesh.ValueMatch{{Name: "x-admin", Value: "yes"}}
	return &Spec{TrustDomain: "td", Groups: []Group{{
		Name: "g", Ports: []PortRange{Port(80)}, Routed: true, Routes: []Route{routeOf("public", prefixOf("/public")), routeOf("admin", admin)},
		Policies: []Policy{
			{Name: "p", Action: ActionAllow, Rules: []Rule{{To: []Operation{{Routes: []string{"public"}}}}}},
			{Name: "w", Action: ActionAllow, Rules: []Rule{{From: []Source{{Namespaces: []Match{{Value: "web"}}}}}}},
		},
	}}}
}

type headers map[string]string

// Next implements Fields.
func (h headers) Next(name string, from int) (string, int, bool) {
	v, ok := h[name]
	return v, 1, ok && from == 0
}

// Alike implements authz.Fields.
func (headers) Alike(string, int) (string, int, bool) { return "", 0, false }

// lines are the values of the field x-op.
type lines []string

// Next implements Fields.
func (l lines) Next(name string, from int) (string, int, bool) {
	if name != "x-op" || from >= len(l) {
		return "", 0, false
	}
	return l[from], from + 1, true
}

// Alike implements authz.Fields.
func (lines) Alike(string, int) (string, int, bool) { return "", 0, false }

func client(namespace string) *Connection {
	c := &Connection{Port: 80}
	if namespace != "" {
		c.Peer = PeerOf(mesh.Identity{TrustDomain: "td", Namespace: namespace, ServiceAccount: "x"})
	}
	return c
}

// TestRoutedGroup: a request belongs to one route, or is refused; bytes that are not read as
// requests are refused.
func TestRoutedGroup(t *testing.T) {
	w, problems := CompileWorkload(routed())
	if len(problems) > 0 || !w.NeedsRequests(80) || w.NeedsRequests(81) {
		t.Fatal(problems, w.NeedsRequests(80), w.NeedsRequests(81))
	}
	yes := headers{"x-admin": "yes"}
	for name, tc := range map[string]struct {
		from, path string
		fields     Fields
		want       Verdict
		why        Why
	}{
		"its route's policy":                     {"", "/public/x?q=1", nil, Allow, WhyRule},
		"another route's policy":                 {"", "/admin", yes, Deny, WhyUnmatched},
		"the Server's policy":                    {"web", "/admin", yes, Allow, WhyRule},
		"no route, and the Server's policy":      {"web", "/admin", nil, Deny, WhyUnrouted},
		"no route, and no policy":                {"", "/", nil, Deny, WhyUnrouted},
		"the readings belong to other routes":    {"web", "/public/../admin", yes, Deny, WhyUnrouted},
		"one reading belongs to none":            {"", "/public/..%2fadmin", nil, Deny, WhyUnrouted},
		"readings that belong to the same one":   {"", "/public/a%2Fb", nil, Allow, WhyRule},
		"a slash too many, which some leave out": {"", "//public", nil, Deny, WhyUnrouted},
	} {
		d := w.DecideRequest(client(tc.from), &Request{Method: "GET", Path: tc.path, Fields: tc.fields})
		if d.Verdict != tc.want || d.Why != tc.why {
			t.Errorf("%s: got %+v, want %v for %v", name, d.Outcome, tc.want, tc.why)
		}
	}
	// A field or parameter that the routes compare, with several values.
	query := &Spec{TrustDomain: "td", Groups: []Group{{Name: "g", Routed: true, Default: ModeAllUnauthenticated, Routes: []Route{
		routeOf("q", mesh.RouteMatch{Query: []mesh.ValueMatch{{Name: "op", Value: "read"}}}),
		routeOf("h", mesh.RouteMatch{Headers: []mesh.ValueMatch{{Name: "X-Op", Value: "read"}}}),
	}}}}
	q, problems := CompileWorkload(query)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for name, tc := range map[string]struct {
		path   string
		fields Fields
		want   Verdict
	}{
		"one value":                 {"/?op=read", nil, Allow},
		"the same twice":            {"/?op=read&op=read", nil, Allow},
		"two values":                {"/?op=read&op=write", nil, Deny},
		"two values, one encoded":   {"/?op=read&o%70=write", nil, Deny},
		"another parameter twice":   {"/?op=read&x=1&x=2", nil, Allow},
		"a field with one value":    {"/", lines{"read"}, Allow},
		"a field with one, twice":   {"/", lines{"read", "read"}, Allow},
		"a field with two values":   {"/", lines{"read", "write"}, Deny},
		"a field with others first": {"/", lines{"write", "read"}, Deny},
	} {
		if d := q.DecideRequest(client(""), &Request{Method: "GET", Path: tc.path, Fields: tc.fields}); d.Verdict != tc.want {
			t.Errorf("%s: got %+v, want %v", name, d.Outcome, tc.want)
		}
	}
	for from, want := range map[string]Why{"web": WhyOpaque, "": WhyOpaque} {
		if d := w.DecideRequest(client(from), nil); d.Verdict != Deny || d.Why != want {
			t.Errorf("%q, opaque: got %+v, want denied for %v", from, d.Outcome, want)
		}
	}
	if d := w.DecideConnection(client("web")); d.Verdict != NeedsRequest {
		t.Errorf("a connection: got %+v, want that it needs a request", d.Outcome)
	}
	probe := client("")
	probe.Probe = true
	if d := w.DecideRequest(probe, &Request{Method: "GET", Path: "/healthz"}); d.Verdict != Allow {
		t.Errorf("a probe of no route: got %+v", d.Outcome)
	}
}

// TestDoubtfulRoutes: with a route that is not understood no request belongs to any, and a
// rule with filters refuses its requests.
func TestDoubtfulRoutes(t *testing.T) {
	for name, tc := range map[string]struct {
		change  func(*Group)
		problem string
	}{
		"no routes":       {func(g *Group) { g.Routes = nil }, ""},
		"without a match": {func(g *Group) { g.Routes[1].Match = nil }, "says nothing"},
		"a bad expression": {func(g *Group) {
			g.Routes[1].Match.Rules[0].Matches[0].Path = mesh.PathMatch{Kind: mesh.PathRegex, Value: "("}
		}, "missing closing"},
		"gRPC and HTTP":      {func(g *Group) { g.Routes[1].Match = &mesh.Route{GRPC: true, Rules: []mesh.RouteRule{{}}} }, "together"},
		"filters":            {func(g *Group) { g.Routes[0].Match.Rules[0].Filters.Invalid = "filters" }, ""},
		"no routes, nothing": {func(g *Group) { g.Routes = []Route{} }, ""},
	} {
		spec := routed()
		tc.change(&spec.Groups[0])
		w, problems := CompileWorkload(spec)
		text := ""
		for _, p := range problems {
			text += p.String()
		}
		if (tc.problem == "") != (text == "") || !strings.Contains(text, tc.problem) {
			t.Errorf("%s: got the problems %q, want %q", name, text, tc.problem)
		}
		if d := w.DecideRequest(client("web"), &Request{Method: "GET", Path: "/public"}); d.Why != WhyUnrouted {
			t.Errorf("%s: got %+v, want refused", name, d.Outcome)
		}
	}
}

// TestRoutesOfCalls: the routes of a gRPC Server are those of all of its requests.
func TestRoutesOfCalls(t *testing.T) {
	call := Route{Name: "call", Match: &mesh.Route{GRPC: true, Kind: "GRPCRoute", Name: "call", Rules: []mesh.RouteRule{{
		Matches: []mesh.RouteMatch{{GRPC: mesh.GRPCMethodMatch{Service: "a.B", Method: "C"}}},
	}}}}
	w, problems := CompileWorkload(&Spec{Groups: []Group{{
		Name: "g", Routed: true, Routes: []Route{call}, Default: ModeAllUnauthenticated, Unmatched: ModeAllUnauthenticated,
	}}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for path, want := range map[string]Verdict{"/a.B/C": Allow, "/a.B/D": Deny, "/": Deny} {
		if d := w.DecideRequest(client(""), &Request{Method: "POST", Path: path}); d.Verdict != want {
			t.Errorf("%s: got %+v, want %v", path, d.Outcome, want)
		}
	}
}

// TestTwoRoutedGroups: a request belongs to a route of each group by itself.
func TestTwoRoutedGroups(t *testing.T) {
	one, other := routed().Groups[0], routed().Groups[0]
	other.Routes = []Route{routeOf("all", prefixOf("/"))}
	other.Policies = []Policy{{Name: "a", Action: ActionAllow, Rules: []Rule{{To: []Operation{{Routes: []string{"all"}}}}}}}
	w, _ := CompileWorkload(&Spec{TrustDomain: "td", Groups: []Group{one, other}})
	for path, want := range map[string]Verdict{"/public": Allow, "/x": Deny} {
		if d := w.DecideRequest(client(""), &Request{Method: "GET", Path: path}); d.Verdict != want {
			t.Errorf("%s: got %+v, want %v", path, d.Outcome, want)
		}
	}
}

// TestRoutingAllocatesNothing: to find the route of a request takes no memory.
func TestRoutingAllocatesNothing(t *testing.T) {
	w, _ := CompileWorkload(routed())
	c, r := client("web"), &Request{Method: "GET", Authority: "shop.example:80", Path: "/admin/x?q=1", Fields: headers{"x-admin": "yes"}}
	if n := testing.AllocsPerRun(1000, func() {
		if w.DecideRequest(c, r).Verdict != Allow {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("got %v allocations a request, want 0", n)
	}
}

func TestRateLimitOfPort(t *testing.T) {
	w, _ := CompileWorkload(&Spec{RateLimits: []RateLimit{{Policy: "a", Ports: []PortRange{Port(80)}, Total: 1}, {Policy: "b", Ports: []PortRange{Port(81)}, Identity: 2}}})
	for port, want := range map[uint16]string{80: "a", 81: "b", 82: ""} {
		got := ""
		if l := w.RateLimit(port); l != nil {
			got = l.Policy
		}
		if got != want {
			t.Errorf("port %d: got the limit %q, want %q", port, got, want)
		}
	}
	if !w.HasRateLimit("a") || w.HasRateLimit("c") || (*Workload)(nil).RateLimit(80) != nil {
		t.Error("HasRateLimit, or the limit of no policies")
	}
}
