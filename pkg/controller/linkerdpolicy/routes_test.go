package linkerdpolicy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/route"
)

const webServer = `
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {namespace: a, name: web}
spec: {podSelector: {}, port: 80, proxyProtocol: %s}
`

const routeHead = `
---
apiVersion: %s
kind: %s
metadata: {namespace: a, name: %s}
spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: web}], %s}
`

type fieldList map[string]string

// Get implements route.Fields.
func (f fieldList) Get(name string) (string, bool) { v, ok := f[name]; return v, ok }

// belongs says which route of the Server web a request belongs to: its name for policies, or
// "none", or "-" if the Server has no routes.
func belongs(t *testing.T, o *Objects, r *route.Request) (string, []string) {
	t.Helper()
	routes, attached, problems := o.Routes(&o.Servers[0])
	var text []string
	for _, p := range problems {
		text = append(text, p.String())
	}
	if !attached {
		return "-", text
	}
	names := map[*mesh.Route]string{}
	var all []*mesh.Route
	for _, b := range routes {
		names[b.Route] = b.Name
		all = append(all, b.Route)
	}
	table, err := route.Compile(all)
	if err != nil {
		t.Fatalf("a bound route does not compile: %v", err)
	}
	hit, verdict := table.Match(r)
	if verdict != route.Matched || hit.Rule.Route.Rules[hit.Rule.Index].Filters.Invalid != "" {
		return "none", text
	}
	return names[hit.Rule.Route], text
}

// TestRoutes: which route of a Server a request belongs to is decided as the Gateway API says.
func TestRoutes(t *testing.T) {
	const gateway = "gateway.networking.k8s.io/v1"
	http := func(name, spec string) string { return fmt.Sprintf(routeHead, gateway, "HTTPRoute", name, spec) }
	const all = "httproute.gateway.networking.k8s.io/all"
	const admin = "httproute.gateway.networking.k8s.io/admin"
	allRoute := http("all", "rules: [{matches: [{path: {type: PathPrefix, value: /}}], backendRefs: [{name: x}], timeouts: {request: 1s}}]")
	for name, tc := range map[string]struct {
		protocol, objects string
		r                 route.Request
		want, problem     string
	}{
		"no routes":               {"unknown", "", route.Request{Path: "/"}, "-", ""},
		"prefix":                  {"HTTP/1", allRoute, route.Request{Path: "/x?y"}, all, ""},
		"without rules":           {"unknown", http("all", "hostnames: [shop.example]"), route.Request{Path: "/x", Authority: "shop.example:80"}, all, ""},
		"another host":            {"unknown", http("all", "hostnames: [shop.example]"), route.Request{Path: "/x", Authority: "other"}, "none", ""},
		"the longer prefix":       {"HTTP/2", allRoute + http("admin", "rules: [{matches: [{path: {value: /admin}}]}]"), route.Request{Path: "/admin/x"}, admin, ""},
		"not of the longer one":   {"HTTP/2", allRoute + http("admin", "rules: [{matches: [{path: {value: /admin}}]}]"), route.Request{Path: "/administrator"}, all, ""},
		"exact, method, header":   {"unknown", http("admin", "rules: [{matches: [{path: {type: Exact, value: /p}, method: POST, headers: [{name: X-A, value: 'b.*', type: RegularExpression}]}]}]"), route.Request{Path: "/p", Method: "POST", Fields: fieldList{"x-a": "bc"}}, admin, ""},
		"another method":          {"unknown", http("admin", "rules: [{matches: [{path: {type: Exact, value: /p}, method: POST}]}]"), route.Request{Path: "/p", Method: "GET"}, "none", ""},
		"query":                   {"unknown", http("admin", "rules: [{matches: [{queryParams: [{name: q, value: v}]}]}]"), route.Request{Path: "/p?q=v"}, admin, ""},
		"Linkerd's own HTTPRoute": {"unknown", fmt.Sprintf(routeHead, "policy.linkerd.io/v1beta3", "HTTPRoute", "x", "rules: [{}]"), route.Request{Path: "/"}, "httproute.policy.linkerd.io/x", ""},
		"gRPC":                    {"gRPC", fmt.Sprintf(routeHead, gateway, "GRPCRoute", "x", "rules: [{matches: [{method: {service: a.B, method: C}}]}]"), route.Request{GRPC: true, Path: "/a.B/C"}, "grpcroute.gateway.networking.k8s.io/x", ""},
		"gRPC, another method":    {"gRPC", fmt.Sprintf(routeHead, gateway, "GRPCRoute", "x", "rules: [{matches: [{method: {service: a.B, method: C}}]}]"), route.Request{GRPC: true, Path: "/a.B/D"}, "none", ""},
		"gRPC, pattern":           {"gRPC", fmt.Sprintf(routeHead, gateway, "GRPCRoute", "x", "rules: [{matches: [{method: {type: RegularExpression, service: a.B}}]}]"), route.Request{GRPC: true, Path: "/a.B/D"}, "none", `the type "RegularExpression"`},
		"HTTPRoute of a gRPC one": {"gRPC", allRoute, route.Request{GRPC: true, Path: "/"}, "-", ""},
		"opaque":                  {"opaque", allRoute, route.Request{Path: "/"}, "-", ""},
		"another namespace":       {"unknown", strings.Replace(allRoute, "name: web", "name: web, namespace: b", 1), route.Request{Path: "/"}, "-", ""},
		"another Server":          {"unknown", strings.Replace(allRoute, "name: web", "name: db", 1), route.Request{Path: "/"}, "-", ""},
		"a Service as parent":     {"unknown", strings.Replace(allRoute, "group: policy.linkerd.io, kind: Server", "group: '', kind: Service", 1), route.Request{Path: "/"}, "-", ""},
		"a port":                  {"unknown", strings.Replace(allRoute, "name: web", "name: web, port: 80", 1), route.Request{Path: "/"}, "none", "with a port"},
		// What is said for all must not hold for what might belong to admin.
		"one that is not known": {"unknown", allRoute + http("admin", "rules: [{matches: [{path: {type: Glob, value: /admin}}]}]"), route.Request{Path: "/admin"}, "none", `path of the type "Glob"`},
		"a field of a match":    {"unknown", allRoute + http("admin", "rules: [{matches: [{cookie: x}]}]"), route.Request{Path: "/admin"}, "none", "matches[0].cookie is not known"},
		"a bad expression":      {"unknown", allRoute + http("admin", "rules: [{matches: [{path: {type: RegularExpression, value: '('}}]}]"), route.Request{Path: "/admin"}, "none", "missing closing"},
		// What a match that is not understood cannot be about goes on.
		"a bad expression, another method": {
			"unknown", allRoute + http("admin", "rules: [{matches: [{path: {type: RegularExpression, value: '('}, method: POST}]}]"),
			route.Request{Path: "/x", Method: "GET"},
			all, "missing closing",
		},
		"a bad expression, the method": {
			"unknown", allRoute + http("admin", "rules: [{matches: [{path: {type: RegularExpression, value: '('}, method: POST}]}]"),
			route.Request{Path: "/x", Method: "POST"},
			"none", "missing closing",
		},
		"a bad expression of a field, another path": {
			"unknown", allRoute + http("admin", "rules: [{matches: [{path: {value: /admin}, headers: [{name: x-a, value: '[', type: RegularExpression}]}]}]"),
			route.Request{Path: "/x"},
			all, "missing closing",
		},
		"a bad expression of a field, its path": {
			"unknown", allRoute + http("admin", "rules: [{matches: [{path: {value: /admin}, headers: [{name: x-a, value: '[', type: RegularExpression}]}]}]"),
			route.Request{Path: "/admin/x"},
			"none", "missing closing",
		},
		"a bad expression, another host": {
			"unknown", allRoute + http("admin", "hostnames: [admin.example], rules: [{matches: [{queryParams: [{name: q, value: '(', type: RegularExpression}]}]}]"),
			route.Request{Path: "/x", Authority: "ok.example"},
			all, "missing closing",
		},
		"a bad expression, its host": {
			"unknown", allRoute + http("admin", "hostnames: [admin.example], rules: [{matches: [{queryParams: [{name: q, value: '(', type: RegularExpression}]}]}]"),
			route.Request{Path: "/x", Authority: "admin.example"},
			"none", "missing closing",
		},
		"a bad rule beside a good one": {
			"unknown", http("all", "rules: [{matches: [{path: {type: Exact, value: /a}}]}, {matches: [{path: {value: /b}, method: 7}]}]"),
			route.Request{Path: "/a"},
			all, "method: 7",
		},
		"a bad rule beside a good one, its path": {
			"unknown", http("all", "rules: [{matches: [{path: {type: Exact, value: /a}}]}, {matches: [{path: {value: /b}, method: 7}]}]"),
			route.Request{Path: "/b/c", Method: "PUT"},
			"none", "method: 7",
		},
		"gRPC, a pattern of the method, another field": {
			"gRPC", fmt.Sprintf(routeHead, gateway, "GRPCRoute", "x", "rules: [{matches: [{method: {service: a.B}}, {method: {type: RegularExpression, service: a.B}, headers: [{name: x-a, value: b}]}]}]"),
			route.Request{GRPC: true, Path: "/a.B/D"},
			"none", `the type "RegularExpression"`,
		},
		"a field of a rule, its path": {
			"unknown", allRoute + http("admin", "rules: [{matches: [{path: {value: /admin}}], cookies: [x]}, {matches: [{path: {value: /b}}]}]"),
			route.Request{Path: "/admin/x"},
			"none", "spec.rules[0].cookies is not known",
		},
		"a field of a rule, another path": {
			"unknown", allRoute + http("admin", "rules: [{matches: [{path: {value: /admin}}], cookies: [x]}, {matches: [{path: {value: /b}}]}]"),
			route.Request{Path: "/x"},
			all, "spec.rules[0].cookies is not known",
		},
		"a field of a rule, another rule": {
			"unknown", allRoute + http("admin", "rules: [{matches: [{path: {value: /admin}}], cookies: [x]}, {matches: [{path: {value: /b}}]}]"),
			route.Request{Path: "/b"},
			admin, "spec.rules[0].cookies is not known",
		},
		"a field of a match, another path": {
			"unknown", allRoute + http("admin", "rules: [{matches: [{path: {value: /admin}, cookie: x}]}]"),
			route.Request{Path: "/x"},
			all, "matches[0].cookie is not known",
		},
		"a field of a path": {
			"unknown", allRoute + http("admin", "rules: [{matches: [{path: {value: /admin, not: true}, method: PUT}]}]"),
			route.Request{Path: "/x", Method: "PUT"},
			"none", "matches[0].path.not is not known",
		},
		"a field of a path, another method": {
			"unknown", allRoute + http("admin", "rules: [{matches: [{path: {value: /admin, not: true}, method: PUT}]}]"),
			route.Request{Path: "/x", Method: "GET"},
			all, "matches[0].path.not is not known",
		},
		"a field of a value": {
			"unknown", allRoute + http("admin", "rules: [{matches: [{path: {value: /admin}, headers: [{name: x-a, value: b, not: true}]}]}]"),
			route.Request{Path: "/admin"},
			"none", "headers[0].not is not known",
		},
		"a field of the route, its path": {
			"unknown", allRoute + http("admin", "hostnames: [a.example], cookies: [x], rules: [{matches: [{path: {value: /admin}}]}, {matches: [{path: {value: /b}}]}]"),
			route.Request{Path: "/b", Authority: "a.example"},
			"none", "spec.cookies is not known",
		},
		"a field of the route, another path": {
			"unknown", allRoute + http("admin", "hostnames: [a.example], cookies: [x], rules: [{matches: [{path: {value: /admin}}]}, {matches: [{path: {value: /b}}]}]"),
			route.Request{Path: "/x", Authority: "a.example"},
			all, "spec.cookies is not known",
		},
		"a field of the route, another host": {
			"unknown", allRoute + http("admin", "hostnames: [admin.example], cookies: [x], rules: [{}]"),
			route.Request{Path: "/x", Authority: "ok.example"},
			all, "spec.cookies is not known",
		},
		"a field of the route, its host": {
			"unknown", allRoute + http("admin", "hostnames: [admin.example], cookies: [x], rules: [{}]"),
			route.Request{Path: "/x", Authority: "admin.example"},
			"none", "spec.cookies is not known",
		},
		// It may be the hosts, and those of another route must not come before them.
		"a field of a route without hosts": {
			"unknown", http("all", "hostnames: [a.example]") + http("admin", "hostname: [a.example], rules: [{matches: [{path: {value: /admin}}]}]"),
			route.Request{Path: "/admin", Authority: "a.example"},
			"none", "spec.hostname is not known",
		},
		"a field of a route without rules": {
			"unknown", http("all", "hostnames: [a.example], rules: [{matches: [{path: {value: /x}}]}]") + http("admin", "hostnames: [a.example], rule: [{matches: [{path: {value: /x/y}}]}]"),
			route.Request{Path: "/x/y", Authority: "a.example"},
			"none", "spec.rule is not known",
		},
		"a field of a rule without matches": {
			"unknown", http("all", "rules: [{matches: [{path: {value: /x}}]}]") + http("admin", "rules: [{match: [{path: {value: /x/y}}]}]"),
			route.Request{Path: "/x/y"},
			"none", "spec.rules[0].match is not known",
		},
		"a field of a match without a path": {
			"unknown", http("all", "rules: [{matches: [{path: {value: /x}}]}]") + http("admin", "rules: [{matches: [{paths: {value: /x/y}}]}]"),
			route.Request{Path: "/x/y"},
			"none", "matches[0].paths is not known",
		},
		"a field of a match that may be its method": {
			"unknown", http("all", "rules: [{matches: [{path: {value: /x}, headers: [{name: a, value: b}]}]}]") + http("admin", "rules: [{matches: [{path: {value: /x}, methods: PUT}]}]"),
			route.Request{Path: "/x/y", Method: "PUT", Fields: fieldList{"a": "b"}},
			"none", "matches[0].methods is not known",
		},
		"a field of a parent": {
			"unknown", allRoute + strings.Replace(http("admin", "rules: [{matches: [{path: {value: /admin}}]}]"), "name: web}", "name: web, zone: a}", 1),
			route.Request{Path: "/admin"},
			"none", "spec.parentRefs[0].zone is not known",
		},
		"a field of a gRPC method": {
			"gRPC", fmt.Sprintf(routeHead, gateway, "GRPCRoute", "x", "rules: [{matches: [{method: {service: a.B, not: true}}]}, {matches: [{method: {service: a.C}}]}]"),
			route.Request{GRPC: true, Path: "/a.C/D"},
			"none", `unknown field "not"`,
		},
		"a bad host, another path": { // it may be any host
			"unknown", allRoute + http("admin", "hostnames: ['a b'], rules: [{matches: [{path: {value: /admin}}]}]"),
			route.Request{Path: "/x"},
			"none", "not a DNS name",
		},
		"a value of another type, another path": {
			"unknown", allRoute + http("admin", "rules: [{matches: [{path: {value: /admin, type: 7}}]}]"),
			route.Request{Path: "/x"},
			"none", "cannot be of type",
		},
		"another namespace beside the own, another path": {
			"unknown", allRoute + strings.Replace(http("admin", "rules: [{matches: [{path: {value: /admin}}]}]"), "parentRefs: [", "parentRefs: [{group: policy.linkerd.io, kind: Server, name: web, namespace: b}, ", 1),
			route.Request{Path: "/x"},
			all, "of another namespace",
		},
		"an empty element": {"unknown", http("all", "rules: [{matches: [null]}]"), route.Request{Path: "/"}, "none", "matches[0] is not known"},
	} {
		o := load(t, strings.TrimPrefix(fmt.Sprintf(webServer, tc.protocol)+tc.objects, "\n"))
		got, problems := belongs(t, o, &tc.r)
		if got != tc.want || (tc.problem == "") != (len(problems) == 0) || !strings.Contains(fmt.Sprint(problems), tc.problem) {
			t.Errorf("%s: got %s, %q; want %s with a problem that says %q", name, got, problems, tc.want, tc.problem)
		}
	}
}

// TestRateLimit: one limit for a Server, the oldest, and what is not understood limits.
func TestRateLimit(t *testing.T) {
	const limit = `
---
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {namespace: a, name: %s%s}
spec: {targetRef: {group: policy.linkerd.io, kind: Server, name: web}%s}
`
	policy := func(name, spec string) string { return fmt.Sprintf(limit, name, "", ", "+spec) }
	id := func(ns, sa string) mesh.Identity {
		return mesh.Identity{TrustDomain: "td", Namespace: ns, ServiceAccount: sa}
	}
	const name = "HTTPLocalRateLimitPolicy.policy.linkerd.io a/"
	for objects, tc := range map[string]struct {
		want    *authz.RateLimit
		problem string
	}{
		"": {},
		policy("p", "total: {requestsPerSecond: 100}, identity: {requestsPerSecond: 20}"): {want: &authz.RateLimit{Policy: name + "p", Total: 100, Identity: 20}},
		policy("p", "overrides: [{requestsPerSecond: 5, clientRefs: [{kind: ServiceAccount, name: x}, {kind: ServiceAccount, namespace: b, name: z}]}]"): {
			want: &authz.RateLimit{Policy: name + "p", Overrides: []authz.RateOverride{{RequestsPerSecond: 5, Clients: []mesh.Identity{id("a", "x"), id("b", "z")}}}},
		},
		policy("q", "total: {requestsPerSecond: 1}") + policy("p", "total: {requestsPerSecond: 2}"):                                                              {&authz.RateLimit{Policy: name + "p", Total: 2}, "a limit already, of p"},
		policy("p", "total: {requestsPerSecond: 2}") + fmt.Sprintf(limit, "q", ", creationTimestamp: '2026-01-01T00:00:00Z'", ", total: {requestsPerSecond: 3}"): {&authz.RateLimit{Policy: name + "q", Total: 3}, "a limit already, of q"},
		policy("p", "total: {requestsPerSecond: 2}, burst: 5"):                                                                                                   {&authz.RateLimit{Policy: name + "p", Total: 2}, "spec.burst: is not known"},
		policy("p", "total: {requestsPerSecond: -2}"):                                                                                                            {&authz.RateLimit{Policy: name + "p", Total: 1}, "no rate"},
		policy("p", "total: {requestsPerSecond: 0}"):                                                                                                             {want: &authz.RateLimit{Policy: name + "p"}},
		policy("p", "identity: {requestsPerSecond: 9}, overrides: [{requestsPerSecond: 5, clientRefs: [{kind: Group, name: x}]}]"):                               {&authz.RateLimit{Policy: name + "p", Identity: 5}, "Group x"},
		policy("p", "overrides: [{requestsPerSecond: 0, clientRefs: [{kind: ServiceAccount, name: x}]}]"):                                                        {want: &authz.RateLimit{Policy: name + "p", Overrides: []authz.RateOverride{{Clients: []mesh.Identity{id("a", "x")}}}}},
		strings.Replace(policy("p", "total: {requestsPerSecond: 2}"), "name: web", "name: db", 1):                                                                {problem: "Server db does not exist"},
		strings.Replace(policy("p", "total: {requestsPerSecond: 2}"), "kind: Server", "kind: HTTPRoute", 1):                                                      {&authz.RateLimit{Policy: name + "p", Total: 2}, "the kind is not known"},
		strings.Replace(policy("p", "total: {requestsPerSecond: 2}"), "kind: Server", "kind: HTTPRoute", 1) + policy("q", "total: {requestsPerSecond: 7}"): {
			&authz.RateLimit{Policy: name + "q", Total: 7}, "the kind is not known",
		},
		policy("p", "total: {requestsPerSecond: many}"):  {&authz.RateLimit{Policy: name + "p", Total: 1}, "cannot be read"},
		policy("p", "total: {requestsPerMinute: 100}"):   {&authz.RateLimit{Policy: name + "p", Total: 1}, "requestsPerMinute"},
		policy("p", "perPath: {requestsPerSecond: 100}"): {&authz.RateLimit{Policy: name + "p", Total: 1}, "no limit that is known"},
	} {
		o := load(t, strings.TrimPrefix(fmt.Sprintf(webServer, "unknown")+objects, "\n"))
		got, problems := o.RateLimit(&o.Servers[0], "td")
		problems = append(problems, o.Unattached()...)
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", objects, diff)
		}
		if text := fmt.Sprint(problems); (tc.problem == "") != (len(problems) == 0) || !strings.Contains(text, tc.problem) {
			t.Errorf("%s: got the problems %s, want one that says %q", objects, text, tc.problem)
		}
	}
}

// TestFieldNames: names of fields are compared in their case, and a field that is given
// twice is not understood: an API server sees another object than a lenient decoder.
func TestFieldNames(t *testing.T) {
	for _, spec := range []string{"{Identities: ['*']}", "{identities: ['*'], IdentityRefs: []}"} {
		o := load(t, "apiVersion: policy.linkerd.io/v1alpha1\nkind: MeshTLSAuthentication\nmetadata: {namespace: a, name: m}\nspec: "+spec)
		if len(o.MeshTLS[0].Unknown) == 0 {
			t.Errorf("%s: got %+v, want an unknown field", spec, o.MeshTLS[0])
		}
	}
	o := new(Objects)
	err := o.Add([]byte(`{"apiVersion":"policy.linkerd.io/v1alpha1","kind":"MeshTLSAuthentication","spec":{"identities":["x"],"identities":["*"]}}`))
	if err != nil || len(o.MeshTLS[0].Unknown) == 0 {
		t.Errorf("a field twice: got %+v, %v", o.MeshTLS[0], err)
	}
}
