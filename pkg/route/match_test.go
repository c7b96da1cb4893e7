package route

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
)

// fields are header fields by name in lower case.
type fields map[string]string

func (f fields) Get(name string) (string, bool) {
	value, ok := f[name]
	return value, ok
}

var parent = mesh.ServicePortRef{Namespace: "shop", Name: "store", Port: 80}

// backend is a forwarding rule's only backend.
func backend(name string) []mesh.RouteBackend {
	return []mesh.RouteBackend{{Service: mesh.ServicePortRef{Namespace: "shop", Name: name, Port: 8080}, Weight: 1}}
}

func httpRoute(name string, rules ...mesh.RouteRule) *mesh.Route {
	return &mesh.Route{Kind: "HTTPRoute", Namespace: "shop", Name: name, Parent: parent, Rules: rules}
}

func grpcRoute(name string, rules ...mesh.RouteRule) *mesh.Route {
	return &mesh.Route{GRPC: true, Kind: "GRPCRoute", Namespace: "shop", Name: name, Parent: parent, Rules: rules}
}

func rule(to string, matches ...mesh.RouteMatch) mesh.RouteRule {
	return mesh.RouteRule{Matches: matches, Backends: backend(to)}
}

func prefix(p string) mesh.PathMatch { return mesh.PathMatch{Kind: mesh.PathPrefix, Value: p} }
func exact(p string) mesh.PathMatch  { return mesh.PathMatch{Kind: mesh.PathExact, Value: p} }
func regex(p string) mesh.PathMatch  { return mesh.PathMatch{Kind: mesh.PathRegex, Value: p} }

func values(nameValue ...string) (out []mesh.ValueMatch) {
	for i := 0; i < len(nameValue); i += 2 {
		out = append(out, mesh.ValueMatch{Name: nameValue[i], Value: nameValue[i+1]})
	}
	return out
}

func compile(t testing.TB, routes ...*mesh.Route) *Table {
	t.Helper()
	table, err := Compile(routes)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// where returns the name of a request's backend, or "404", "500" or "unrouted".
func where(table *Table, r *Request) string {
	hit, verdict := table.Match(r)
	switch verdict {
	case Unrouted:
		return "unrouted"
	case NoRule:
		return "404"
	}
	action := hit.Rule.Choose(0)
	if action.Kind == Refuse {
		return "500"
	}
	return action.Backend.Name
}

// request parses "GET host/path?query name=value …".
func request(line string) *Request {
	words := strings.Fields(line)
	r := &Request{Method: words[0], Scheme: "http", Fields: fields{}}
	r.Authority, r.Path, _ = strings.Cut(words[1], "/")
	r.Path = "/" + r.Path
	for _, word := range words[2:] {
		name, value, _ := strings.Cut(word, "=")
		r.Fields.(fields)[name] = value
	}
	return r
}

type cases map[string]string // request → backend

func (c cases) run(t *testing.T, table *Table) {
	t.Helper()
	for line, want := range c {
		if got := where(table, request(line)); got != want {
			t.Errorf("%s went to %s, want %s", line, got, want)
		}
	}
}

// The tables of this file come from the conformance tests of the specification.

func TestMatching(t *testing.T) {
	cases{
		"GET echo/": "v1", "GET echo/example": "v1", "GET echo/ version=one": "v1",
		"GET echo/v2": "v2", "GET echo/v2/example": "v2", "GET echo/ version=two": "v2",
		"GET echo/v2/": "v2", "GET echo/v2example": "v1", "GET echo/foo/v2/example": "v1",
	}.run(t, compile(t, httpRoute(
		"matching",
		rule("v1", mesh.RouteMatch{Path: prefix("/")}, mesh.RouteMatch{Headers: values("version", "one")}),
		rule("v2", mesh.RouteMatch{Path: prefix("/v2")}, mesh.RouteMatch{Headers: values("Version", "two")}),
	)))
}

func TestMatchingAcrossRoutes(t *testing.T) {
	part1 := httpRoute("matching-part1",
		rule("v1", mesh.RouteMatch{Path: prefix("/")}, mesh.RouteMatch{Headers: values("version", "one")}))
	part1.Hostnames = []string{"example.com", "example.net"}
	part2 := httpRoute("matching-part2",
		rule("v2", mesh.RouteMatch{Path: prefix("/v2")}, mesh.RouteMatch{Headers: values("version", "two")}))
	part2.Hostnames = []string{"example.com"}
	cases{
		"GET example.com/": "v1", "GET example.com/example": "v1", "GET example.net/example": "v1",
		"GET example.com/example version=one": "v1", "GET example.com/v2": "v2", "GET example.com/v2example": "v1",
		"GET example.net/v2": "v1", "GET example.com/v2/example": "v2", "GET example.com/ version=two": "v2",
		"GET example.com:8080/v2": "v2", "GET EXAMPLE.com./v2": "v2", "GET example.org/": "404",
	}.run(t, compile(t, part2, part1))
}

func TestMethodMatching(t *testing.T) {
	cases{
		"POST echo/": "v1", "GET echo/": "v2", "HEAD echo/": "404", "get echo/": "404",
		"GET echo/path1": "v1", "PUT echo/ version=one": "v2", "POST echo/path2 version=two": "v3",
		"PATCH echo/path3": "v1", "DELETE echo/path4 version=three": "v1",
		"DELETE echo/path4": "404", "PATCH echo/path5": "v1", "PATCH echo/ version=four": "v2",
	}.run(t, compile(t, httpRoute(
		"method-matching",
		rule("v1", mesh.RouteMatch{Method: "POST"}),
		rule("v2", mesh.RouteMatch{Method: "GET"}),
		rule("v1", mesh.RouteMatch{Path: prefix("/path1"), Method: "GET"}),
		rule("v2", mesh.RouteMatch{Headers: values("version", "one"), Method: "PUT"}),
		rule("v3", mesh.RouteMatch{Path: prefix("/path2"), Headers: values("version", "two"), Method: "POST"}),
		rule("v1", mesh.RouteMatch{Path: prefix("/path3"), Method: "PATCH"},
			mesh.RouteMatch{Path: prefix("/path4"), Headers: values("version", "three"), Method: "DELETE"}),
		rule("v1", mesh.RouteMatch{Path: prefix("/path5")}),
		rule("v2", mesh.RouteMatch{Method: "PATCH"}),
		rule("v3", mesh.RouteMatch{Headers: values("version", "four")}),
	)))
}

func TestQueryMatching(t *testing.T) {
	cases{
		"GET echo/?animal=whale": "v1", "GET echo/?animal=dolphin": "v2",
		"GET echo/?animal=dolphin&color=blue": "v3", "GET echo/?ANIMAL=Whale": "v3",
		"GET echo/?animal=whale&otherparam=irrelevant": "v1", "GET echo/?animal=dolphin&color=yellow": "v2",
		"GET echo/?color=blue": "404", "GET echo/?animal=dog": "404", "GET echo/?animal=whaledolphin": "404", "GET echo/": "404",
		"GET echo/path1?animal=whale": "v1", "GET echo/?animal=whale version=one": "v2",
		"GET echo/path2?animal=whale version=two": "v3", "GET echo/path3?animal=shark": "v1",
		"GET echo/path4?animal=kraken version=three": "v1", "GET echo/?animal=shark": "404",
		"GET echo/path4?animal=kraken": "404", "GET echo/path5?animal=hydra": "v1", "GET echo/?animal=hydra version=four": "v3",
		// Not in the conformance tests: encodings and repeated parameters.
		"GET echo/?an%69mal=wh%61le": "v1", "GET echo/?animal=whale&animal=dolphin": "v1", "GET echo/?animal=wh+le": "404",
		"GET echo/?&=&animal=whale": "v1", "GET echo/?animal": "404",
	}.run(t, compile(t, httpRoute(
		"query-param-matching",
		rule("v1", mesh.RouteMatch{Query: values("animal", "whale")}),
		rule("v2", mesh.RouteMatch{Query: values("animal", "dolphin")}),
		rule("v3", mesh.RouteMatch{Query: values("animal", "dolphin", "color", "blue")},
			mesh.RouteMatch{Query: values("ANIMAL", "Whale")}),
		rule("v1", mesh.RouteMatch{Path: prefix("/path1"), Query: values("animal", "whale")}),
		rule("v2", mesh.RouteMatch{Headers: values("version", "one"), Query: values("animal", "whale")}),
		rule("v3", mesh.RouteMatch{Path: prefix("/path2"), Headers: values("version", "two"), Query: values("animal", "whale")}),
		rule("v1", mesh.RouteMatch{Path: prefix("/path3"), Query: values("animal", "shark")},
			mesh.RouteMatch{Path: prefix("/path4"), Headers: values("version", "three"), Query: values("animal", "kraken")}),
		rule("v1", mesh.RouteMatch{Path: prefix("/path5")}),
		rule("v2", mesh.RouteMatch{Query: values("animal", "hydra")}),
		rule("v3", mesh.RouteMatch{Headers: values("version", "four")}),
	)))
}

func TestRegexes(t *testing.T) {
	cases{
		"GET echo/users/42": "user", "GET echo/users/42/": "all", "GET echo/users/x": "all",
		"GET echo/x/users/42": "all", "GET echo/users/42?q=1": "user",
		"GET echo/users/7":        "seven", // exact before regex
		"GET echo/h agent=curl/8": "curl", "GET echo/h agent=not-curl/8": "all",
		"GET echo/q?v=a%20b": "spaced", "GET echo/q?v=a+b": "spaced", "GET echo/q?v=ab": "all",
		"GET echo/one": "alternatives", "GET echo/two": "alternatives", "GET echo/twofold": "all",
	}.run(t, compile(t, httpRoute(
		"regexes",
		rule("all"),
		rule("user", mesh.RouteMatch{Path: regex("/users/[0-9]+")}),
		rule("seven", mesh.RouteMatch{Path: exact("/users/7")}),
		rule("curl", mesh.RouteMatch{Headers: []mesh.ValueMatch{{Name: "agent", Value: "curl/.*", Regex: true}}}),
		rule("spaced", mesh.RouteMatch{Query: []mesh.ValueMatch{{Name: "v", Value: `\w \w`, Regex: true}}}),
		rule("alternatives", mesh.RouteMatch{Path: regex("/one|/two")}),
	)))
}

func TestHostHeader(t *testing.T) {
	cases{
		"GET canary.shop/": "canary", "GET store.shop/": "all",
		"GET store.shop/ host=canary.shop": "all", // the authority decides, not the field
	}.run(t, compile(t, httpRoute(
		"host",
		rule("all"),
		rule("canary", mesh.RouteMatch{Headers: values("Host", "canary.shop")}),
	)))
}

func TestHostnames(t *testing.T) {
	var routes []*mesh.Route
	for _, name := range []string{"*.example.com", "foo.example.com", "*.foo.example.com", ""} {
		r := httpRoute("r"+name, rule(name, mesh.RouteMatch{Path: prefix("/")}))
		if name != "" {
			r.Hostnames = []string{name}
		} else {
			r.Rules = []mesh.RouteRule{rule("any"), rule("better", mesh.RouteMatch{Path: exact("/exact")})}
		}
		routes = append(routes, r)
	}
	only := httpRoute("only-a-path", rule("path", mesh.RouteMatch{Path: exact("/exact")}))
	only.Hostnames = []string{"bar.example.com"}
	cases{
		"GET foo.example.com/": "foo.example.com", "GET bar.example.com/": "*.example.com",
		"GET a.b.example.com/": "*.example.com", "GET a.foo.example.com/": "*.foo.example.com",
		"GET example.com/": "any", "GET .example.com/": "any", "GET [::1]:80/": "any", "GET 10.0.0.1/": "any", "GET /": "any",
		"GET notexample.com/": "any",
		// The hostname takes precedence over the path. If no rule of a hostname
		// matches, the next best hostname is tried.
		"GET foo.example.com/exact": "foo.example.com", "GET bar.example.com/exact": "path", "GET example.com/exact": "better",
		"GET " + strings.Repeat("a", 300) + ".example.com/": "any",
	}.run(t, compile(t, append(routes, only)...))
}

func TestGRPCMatching(t *testing.T) {
	table := compile(t, grpcRoute(
		"grpc",
		rule("say", mesh.RouteMatch{GRPC: mesh.GRPCMethodMatch{Service: "pkg.Echo", Method: "Say"}}),
		rule("echo", mesh.RouteMatch{GRPC: mesh.GRPCMethodMatch{Service: "pkg.Echo"}}),
		rule("ping", mesh.RouteMatch{GRPC: mesh.GRPCMethodMatch{Method: "Ping"}}),
		rule("v2", mesh.RouteMatch{GRPC: mesh.GRPCMethodMatch{Service: "pkg.Echo"}, Headers: values("version", "two")}),
		rule("regex", mesh.RouteMatch{GRPC: mesh.GRPCMethodMatch{Service: `pkg\.T.*`, Method: "Get|List", Regex: true}}),
	), httpRoute("http", rule("http")))
	for path, want := range map[string]string{
		"/pkg.Echo/Say": "say", "/pkg.Echo/Ask": "echo", "/pkg.Echo/Ping": "echo", "/other/Ping": "ping",
		"/pkg.Test/Get": "regex", "/pkg.Test/List": "regex", "/pkg.Test/GetAll": "404", "/pkg.Test/a/Get": "404",
		"/other/a/Ping": "404", "/Ping": "404", "//Ping": "404", "/other/Say": "404", "/pkg.Echoes/Say": "404", "": "404",
	} {
		r := &Request{GRPC: true, Method: "POST", Path: path, Fields: fields{}}
		if got := where(table, r); got != want {
			t.Errorf("%s went to %s, want %s", path, got, want)
		}
	}
	r := &Request{GRPC: true, Method: "POST", Path: "/pkg.Echo/Ask", Fields: fields{"version": "two"}}
	if got := where(table, r); got != "v2" {
		t.Errorf("a call with the header went to %s, want v2", got)
	}
	// The two kinds are not merged.
	if got := where(table, request("POST echo/pkg.Echo/Say")); got != "http" {
		t.Errorf("a request that is not gRPC went to %s, want http", got)
	}
	onlyGRPC := compile(t, grpcRoute("grpc", rule("all")))
	if got := where(onlyGRPC, request("GET echo/healthz")); got != "unrouted" {
		t.Errorf("a request that is not gRPC went to %s, want unrouted: only gRPC has routes", got)
	}
	onlyHTTP := compile(t, httpRoute("http", rule("http")))
	if got := where(onlyHTTP, &Request{GRPC: true, Method: "POST", Path: "/pkg.Echo/Say"}); got != "http" {
		t.Errorf("a gRPC call without gRPC routes went to %s, want http", got)
	}
}

// TestAge checks which of several equal matches wins: the older route's, then the
// first by name, then the first within the route.
func TestAge(t *testing.T) {
	old, young, younger := httpRoute("z", rule("old")), httpRoute("a", rule("young")), httpRoute("b", rule("younger"))
	old.Created = time.Unix(1, 0)
	young.Created, younger.Created = time.Unix(2, 0), time.Unix(2, 0)
	if got := where(compile(t, younger, young, old), request("GET echo/")); got != "old" {
		t.Errorf("went to %s, want old: the older route", got)
	}
	if got := where(compile(t, younger, young), request("GET echo/")); got != "young" {
		t.Errorf("went to %s, want young: the first by name", got)
	}
	if got := where(compile(t, httpRoute("r", rule("first"), rule("second"))), request("GET echo/")); got != "first" {
		t.Errorf("went to %s, want first: the first rule", got)
	}
}

func TestNoRoutes(t *testing.T) {
	var none *Table
	for _, table := range []*Table{none, compile(t)} {
		if got := where(table, request("GET echo/")); got != "unrouted" {
			t.Errorf("went to %s, want unrouted", got)
		}
		if got := table.Rules(); len(got) != 0 {
			t.Errorf("without routes: Rules() = %v, want none", got)
		}
	}
	if got := where(compile(t, httpRoute("empty")), request("GET echo/")); got != "unrouted" {
		t.Errorf("with a route without rules it went to %s, want unrouted", got)
	}
}

func TestPathlessRequests(t *testing.T) {
	table := compile(t, httpRoute("r", rule("all"), rule("root", mesh.RouteMatch{Path: exact("/")})))
	for _, r := range []*Request{{Method: "OPTIONS", Path: "*"}, {Method: "GET", Path: "relative"}} {
		if got := where(table, r); got != "all" {
			t.Errorf("%s %s went to %s, want all", r.Method, r.Path, got)
		}
	}
	if got := where(table, &Request{Method: "GET", Path: "?q"}); got != "root" {
		t.Errorf("an empty path went to %s, want root, as / does", got)
	}
}

func TestSelect(t *testing.T) {
	named := func(name, namespace string, to mesh.ServicePortRef) *mesh.Route {
		return &mesh.Route{Name: name, Namespace: namespace, Parent: to}
	}
	anyPort := mesh.ServicePortRef{Namespace: "shop", Name: "store"}
	routes := []*mesh.Route{
		named("producer", "shop", anyPort),
		named("producer-80", "shop", parent),
		named("producer-81", "shop", mesh.ServicePortRef{Namespace: "shop", Name: "store", Port: 81}),
		named("consumer", "web", parent),
		named("stranger", "elsewhere", anyPort),
		named("other-service", "shop", mesh.ServicePortRef{Namespace: "shop", Name: "cart", Port: 80}),
		named("other-namespace", "web", mesh.ServicePortRef{Namespace: "web", Name: "store", Port: 80}),
	}
	for name, tc := range map[string]struct {
		port   uint16
		client string
		want   []string
	}{
		"consumer":                {80, "web", []string{"consumer"}},
		"consumer, another port":  {81, "web", []string{"producer", "producer-81"}},
		"no routes of its own":    {80, "third", []string{"producer", "producer-80"}},
		"the producer":            {80, "shop", []string{"producer", "producer-80"}},
		"a port without its own":  {82, "shop", []string{"producer"}},
		"a stranger's is its own": {82, "elsewhere", []string{"stranger"}},
	} {
		var got []string
		for _, r := range Select(routes, mesh.ServicePortRef{Namespace: "shop", Name: "store", Port: tc.port}, tc.client) {
			got = append(got, r.Name)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		var rules []mesh.RouteRule
		for i := range n {
			rules = append(rules, rule("b", mesh.RouteMatch{Path: prefix(fmt.Sprintf("/service%d/path", i))}))
		}
		table := compile(b, httpRoute("r", rules...))
		r := request(fmt.Sprintf("GET echo/service%d/path/to?query=1", n/2))
		b.Run(fmt.Sprintf("prefixes=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, verdict := table.Match(r); verdict != Matched {
					b.Fatal(verdict)
				}
			}
		})
	}
}
