package route

import (
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
)

// TestRefusedRoutes checks that an invalid route is refused with an error that
// says what is wrong.
func TestRefusedRoutes(t *testing.T) {
	match := func(m mesh.RouteMatch) mesh.RouteRule { return rule("b", m) }
	filters := func(f mesh.RouteFilters) mesh.RouteRule {
		r := rule("b")
		r.Filters = f
		return r
	}
	set := func(name, value string) mesh.RouteRule {
		return filters(mesh.RouteFilters{RequestHeaders: &mesh.HeaderModifier{Set: []mesh.HeaderField{header(name, value)}}})
	}
	redirect := func(r mesh.RouteRedirect) mesh.RouteRule {
		return filters(mesh.RouteFilters{Redirect: &r})
	}
	backendRewrites := redirect(mesh.RouteRedirect{Status: 301})
	backendRewrites.Filters = mesh.RouteFilters{Rewrite: &mesh.RouteRewrite{Hostname: "x"}}
	backendRewrites.Backends[0].Filters.Redirect = &mesh.RouteRedirect{Status: 301}
	exactReplaced := rewriting("/a", mesh.PathReplacePrefix, "/b")
	exactReplaced.Matches = append(exactReplaced.Matches, mesh.RouteMatch{Path: exact("/a")})
	portless := rule("b")
	portless.Backends[0].Service.Port = 0
	timeouts, retries := rule("b"), rule("b")
	timeouts.Timeouts = mesh.RouteTimeouts{Request: time.Second, BackendRequest: 2 * time.Second}
	retries.Retry = &mesh.RouteRetry{Codes: []uint16{200}}
	negative := rule("b")
	negative.Timeouts.Request = -1

	for want, r := range map[string]mesh.RouteRule{
		`path "a"`:                         match(mesh.RouteMatch{Path: prefix("a")}),
		`path "/a?b"`:                      match(mesh.RouteMatch{Path: exact("/a?b")}),
		`path "/a//b"`:                     match(mesh.RouteMatch{Path: exact("/a//b")}),
		`path "/a/../b"`:                   match(mesh.RouteMatch{Path: exact("/a/../b")}),
		`path "/a/.."`:                     match(mesh.RouteMatch{Path: prefix("/a/..")}),
		`path "/a%2Fb"`:                    match(mesh.RouteMatch{Path: prefix("/a%2Fb")}),
		`path ""`:                          match(mesh.RouteMatch{Path: exact("")}),
		`missing closing )`:                match(mesh.RouteMatch{Path: regex("(")}),
		`unexpected )`:                     match(mesh.RouteMatch{Path: regex("a)|(b")}),
		`at most 4096`:                     match(mesh.RouteMatch{Path: regex(strings.Repeat("a", 4097))}),
		`unknown kind of match`:            match(mesh.RouteMatch{Path: mesh.PathMatch{Kind: 9}}),
		`method "GE T"`:                    match(mesh.RouteMatch{Method: "GE T"}),
		`header ":path"`:                   match(mesh.RouteMatch{Headers: values(":path", "/")}),
		`header "x": error parsing regexp`: match(mesh.RouteMatch{Headers: []mesh.ValueMatch{{Name: "x", Value: "[", Regex: true}}}),
		`query parameter without a name`:   match(mesh.RouteMatch{Query: values("", "1")}),
		`query parameter "q": error parsing regexp`: match(mesh.RouteMatch{Query: []mesh.ValueMatch{{Name: "q", Value: "[", Regex: true}}}),
		`gRPC method: the route is an HTTP route`:   match(mesh.RouteMatch{GRPC: mesh.GRPCMethodMatch{Method: "a"}}),

		`header "host" cannot be changed: rewrite`: set("Host", "x"),
		`header "content-length" cannot`:           set("Content-Length", "1"),
		`header "a b": not a name`:                 set("A b", "1"),
		`header "x": a control character`:          set("X", "a\r\nb: c"),
		`header "x": white space`:                  set("X", " a"),
		`header "x": more than one action`: filters(mesh.RouteFilters{ResponseHeaders: &mesh.HeaderModifier{
			Set: []mesh.HeaderField{header("X", "1")}, Remove: []string{"x"},
		}}),
		`redirect: status 304`:   redirect(mesh.RouteRedirect{Status: 304}),
		`redirect: scheme "ftp"`: redirect(mesh.RouteRedirect{Status: 301, Scheme: "ftp"}),
		`hostname "a_b"`:         redirect(mesh.RouteRedirect{Status: 301, Hostname: "a_b"}),
		`hostname "10.0.0.1"`:    redirect(mesh.RouteRedirect{Status: 301, Hostname: "10.0.0.1"}),
		`path "/x?y"`:            rewriting("/", mesh.PathReplaceFull, "/x?y"),
		`path "x"`:               rewriting("/", mesh.PathReplacePrefix, "x"),
		`match 1 has no path`:    exactReplaced,
		`unknown kind of change`: rewriting("/", 9, "/"),
		`hostname "-a"`:          filters(mesh.RouteFilters{Rewrite: &mesh.RouteRewrite{Hostname: "-a"}}),
		`a redirect and a rewrite`: filters(mesh.RouteFilters{
			Rewrite: &mesh.RouteRewrite{Hostname: "a"}, Redirect: &mesh.RouteRedirect{Status: 301},
		}),
		`backend 0: both a redirect`: backendRewrites,
		`mirror: a share of 2 in 1`: filters(mesh.RouteFilters{Mirrors: []mesh.RouteMirror{{
			Service: parent, Share: mesh.Fraction{Numerator: 2, Denominator: 1},
		}}}),
		`mirror: no port`:             filters(mesh.RouteFilters{Mirrors: []mesh.RouteMirror{{}}}),
		`fault: a delay`:              filters(mesh.RouteFilters{Fault: &mesh.RouteFault{Delay: time.Hour}}),
		`fault: status 99`:            filters(mesh.RouteFilters{Fault: &mesh.RouteFault{AbortStatus: 99}}),
		`fault: gRPC status 17`:       filters(mesh.RouteFilters{Fault: &mesh.RouteFault{AbortGRPC: 17}}),
		`fault: a share of 1 in 0`:    filters(mesh.RouteFilters{Fault: &mesh.RouteFault{AbortShare: mesh.Fraction{Numerator: 1}}}),
		`backend 0: no port`:          portless,
		`timeouts: 2s for the backen`: timeouts,
		`timeouts: below zero`:        negative,
		`retry: HTTP status 200`:      retries,
	} {
		err := Check(httpRoute("bad", rule("fine"), r))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "rule 1: ") {
			t.Errorf("got %v, want an error of rule 1 that says %q", err, want)
		}
	}
	for want, r := range map[string]mesh.RouteRule{
		`matches by service, method and headers only`: match(mesh.RouteMatch{Path: prefix("/a")}),
		`service "a/b"`:                match(mesh.RouteMatch{GRPC: mesh.GRPCMethodMatch{Service: "a/b"}}),
		`missing closing ]`:            match(mesh.RouteMatch{GRPC: mesh.GRPCMethodMatch{Service: "[", Regex: true}}),
		`can neither be redirected`:    redirect(mesh.RouteRedirect{Status: 301}),
		`redirected nor rewritten`:     filters(mesh.RouteFilters{Rewrite: &mesh.RouteRewrite{Hostname: "a"}}),
		`rule 0: retry: gRPC status 0`: {Retry: &mesh.RouteRetry{GRPCCodes: []uint8{0}}},
	} {
		if err := Check(grpcRoute("bad", r)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("gRPC: got %v, want an error that says %q", err, want)
		}
	}
	for _, name := range []string{"*", "*.", "a.*.b", "A.b", "10.0.0.1", "a..b", "a:80", "", "-a.b", strings.Repeat("a.", 150) + "b"} {
		r := httpRoute("bad", rule("b"))
		r.Hostnames = []string{"fine.example.com", name}
		if err := Check(r); err == nil {
			t.Errorf("hostname %q: got no error, want one", name)
		}
	}
	named := rule("b")
	named.Name = "same"
	if err := Check(httpRoute("bad", named, named)); err == nil {
		t.Error("two rules with the same name: got no error, want one")
	}
}

// TestOneBadRoute checks that a bad route does not affect the others.
func TestOneBadRoute(t *testing.T) {
	table, err := Compile([]*mesh.Route{
		httpRoute("good", rule("good")),
		httpRoute("bad", rule("bad", mesh.RouteMatch{Path: exact("/x")}), rule("bad", mesh.RouteMatch{Path: regex("(")})),
	})
	if err == nil || !strings.Contains(err.Error(), "HTTPRoute shop/bad: rule 1") {
		t.Errorf("got error %v, want one that names HTTPRoute shop/bad: rule 1", err)
	}
	if got := where(table, request("GET echo/x")); got != "good" {
		t.Errorf("went to %s, want good", got)
	}
}

func TestRules(t *testing.T) {
	r := rule("b")
	r.Name = "named"
	r.Timeouts.Request = time.Second
	route := httpRoute("r", rule("a"), r)
	rules := compile(t, route).Rules()
	if len(rules) != 2 || rules[1].Route != route || rules[1].Index != 1 || rules[1].Name != "named" ||
		rules[1].Timeouts.Request != time.Second || rules[1].Retry != retry.Default {
		t.Errorf("got rules %+v, want two, the second named %q with index 1, its timeout and the default retry policy", rules, "named")
	}
}

// TestCompileKeepsItsInput checks that Compile does not change its argument:
// tables share routes.
func TestCompileKeepsItsInput(t *testing.T) {
	b, a := httpRoute("b", rule("b")), httpRoute("a", rule("a"))
	routes := []*mesh.Route{b, a}
	compile(t, routes...)
	if routes[0] != b || routes[1] != a {
		t.Errorf("got the order %s, %s; want b, a as before", routes[0].Name, routes[1].Name)
	}
}

// TestAllocations checks that a request allocates nothing, whatever it is matched
// by.
func TestAllocations(t *testing.T) {
	full := rewriting("/rewrite", mesh.PathReplacePrefix, "/new")
	redirect := rule("unused", mesh.RouteMatch{Path: prefix("/redirect")})
	redirect.Filters.Redirect = &mesh.RouteRedirect{Status: 301, Scheme: "https"}
	split := rule("a", mesh.RouteMatch{Path: prefix("/split")})
	split.Backends = append(split.Backends, backend("b")...)
	hosted := httpRoute("hosted", rule("hosted"))
	hosted.Hostnames = []string{"one.example.com", "*.deep.example.com"}
	table := compile(t, hosted, httpRoute(
		"r", full, redirect, split,
		rule("exact", mesh.RouteMatch{Path: exact("/exact")}),
		rule("regex", mesh.RouteMatch{Path: regex("/users/[0-9]+/.*")}),
		rule("values", mesh.RouteMatch{
			Path: prefix("/values"), Method: "GET", Query: values("q", "a b"),
			Headers: []mesh.ValueMatch{{Name: "version", Value: "v[0-9]+", Regex: true}, {Name: "host", Value: "echo"}},
		}),
	), grpcRoute("g", rule("g", mesh.RouteMatch{GRPC: mesh.GRPCMethodMatch{Service: "a.b", Method: "C"}})))
	buf := make([]byte, 0, 256)
	for _, line := range []string{
		"GET echo/rewrite/a/b?c", "GET echo/redirect/x?y=1", "GET echo/split", "GET echo/exact",
		"GET echo/users/42/name", "GET echo/values/x?p=1&q=a%20b version=v12", "GET One.Example.COM:80/", "GET a.b.deep.example.com/",
		"GET echo/nothing", "POST echo/a.b/C grpc=1",
	} {
		r := request(line)
		_, r.GRPC = r.Fields.Get("grpc")
		var verdict Verdict
		n := testing.AllocsPerRun(200, func() {
			var hit Hit
			if hit, verdict = table.Match(r); verdict != Matched {
				return
			}
			a := hit.Rule.Choose(12345)
			if a.Kind == Redirect {
				buf = a.AppendLocation(buf[:0], r, hit, 80)
			} else {
				buf = a.AppendTarget(buf[:0], r, hit)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations, want 0", line, n)
		}
		want := Matched
		if strings.Contains(line, "nothing") {
			want = NoRule
		}
		if verdict != want {
			t.Errorf("%s: verdict %d, want %d", line, verdict, want)
		}
	}
}

func TestBackends(t *testing.T) {
	split := rule("a")
	split.Backends = append(split.Backends, backend("b")...)
	split.Filters.Mirrors = []mesh.RouteMirror{{Service: mesh.ServicePortRef{Namespace: "shop", Name: "shadow", Port: 1}}}
	table := compile(t, httpRoute("r", split, rule("a", mesh.RouteMatch{Path: exact("/x")})))
	all := table.Backends()
	if len(all) != 3 {
		t.Fatalf("got %v, want a, b and the mirror once each", all)
	}
	for _, r := range table.Rules() {
		for _, a := range r.actions {
			if all[a.BackendIndex] != a.Backend {
				t.Errorf("backend %v: BackendIndex = %d, want its index in %v", a.Backend, a.BackendIndex, all)
			}
			for _, m := range a.Mirrors {
				if all[m.BackendIndex] != m.Backend {
					t.Errorf("mirror %v: BackendIndex = %d, want its index in %v", m.Backend, m.BackendIndex, all)
				}
			}
		}
	}
	if got := (*Table)(nil).Backends(); got != nil {
		t.Errorf("nil Table: Backends() = %v, want nil", got)
	}
}
