package translate_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

const apiServer = authzServer + "spec: {podSelector: {matchLabels: {app: api}}, port: http%s}\n"

// serverRoute is a route with the Server api as parent.
func serverRoute(apiVersion, kind, name, rules string) string {
	return fmt.Sprintf(`---
apiVersion: %s
kind: %s
metadata: {name: %s, namespace: shop}
spec: {parentRefs: [{group: policy.linkerd.io, kind: Server, name: api}], rules: %s}
`, apiVersion, kind, name, rules)
}

// routePolicy lets everybody use a route.
func routePolicy(group, kind, name string) string {
	return fmt.Sprintf(`---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: of-%[3]s, namespace: shop}
spec: {targetRef: {group: %[1]s, kind: %[2]s, name: %[3]s}, requiredAuthenticationRefs: []}
`, group, kind, name)
}

const gateway = "gateway.networking.k8s.io"

// TestServerRoutes: the routes of a Server reach the pods that it selects, with the policies
// that are about them.
func TestServerRoutes(t *testing.T) {
	route := serverRoute(gateway+"/v1", "HTTPRoute", "public", "[{matches: [{path: {value: /public}}], backendRefs: [{name: x}]}]")
	own := serverRoute("policy.linkerd.io/v1beta3", "HTTPRoute", "own", "[{matches: [{path: {value: /own}}]}]")
	calls := serverRoute(gateway+"/v1", "GRPCRoute", "calls", "[{matches: [{method: {service: a.B}}]}]")
	older := fmt.Sprintf("---\napiVersion: policy.linkerd.io/v1beta1\nkind: ServerAuthorization\nmetadata: {name: older, namespace: shop}\nspec: {server: %s, client: %s}\n",
		"{selector: {matchLabels: {tier: edge}}}", "{networks: [{cidr: 10.9.0.0/16}], unauthenticated: true}")
	for name, tc := range map[string]struct {
		objects string
		problem string
		want    map[string]string // by "METHOD PATH", or "opaque"
		account string
	}{
		"a route with a policy": {
			objects: fmt.Sprintf(apiServer, "") + route + routePolicy(gateway, "HTTPRoute", "public"),
			want:    map[string]string{"GET /public": "allow", "GET /else": "unrouted", "opaque": "opaque"},
		},
		"a route without a policy": {
			objects: fmt.Sprintf(apiServer, "") + route,
			want:    map[string]string{"GET /public": "unmatched", "GET /else": "unrouted"},
		},
		"the Server's policy": {
			objects: fmt.Sprintf(apiServer, "") + route, account: "web",
			want: map[string]string{"GET /public": "allow", "GET /else": "unrouted", "opaque": "opaque"},
		},
		"routes of both groups": {
			objects: fmt.Sprintf(apiServer, "") + route + own + routePolicy("policy.linkerd.io", "HTTPRoute", "own"),
			want:    map[string]string{"GET /public": "unmatched", "GET /own": "allow", "GET /else": "unrouted"},
		},
		"of a gRPC Server": {
			objects: fmt.Sprintf(apiServer, ", proxyProtocol: gRPC") + route + calls + routePolicy(gateway, "GRPCRoute", "calls"),
			want:    map[string]string{"POST /a.B/C": "allow", "POST /a.C/C": "unrouted", "GET /public": "unrouted"},
		},
		"of an opaque Server": {
			objects: fmt.Sprintf(apiServer, ", proxyProtocol: opaque") + route + routePolicy(gateway, "HTTPRoute", "public"), account: "web",
			want: map[string]string{"opaque": "allow"},
		},
		"a protocol that is not known": {
			objects: fmt.Sprintf(apiServer, ", proxyProtocol: HTTP/9, accessPolicy: all-unauthenticated"), problem: `spec.proxyProtocol "HTTP/9": is not known`,
			want: map[string]string{"GET /": "unmatched", "opaque": "unmatched"},
		},
		"a route that is not understood": {
			objects: fmt.Sprintf(apiServer, "") + route + serverRoute("policy.linkerd.io/v1beta3", "HTTPRoute", "own", "[{matches: [{cookie: x}]}]"), account: "web",
			problem: "cookie is not known", want: map[string]string{"GET /public": "unrouted"},
		},
		"filters": {
			objects: fmt.Sprintf(apiServer, "") + own + serverRoute("policy.linkerd.io/v1beta3", "HTTPRoute", "public", "[{matches: [{path: {value: /f}}], filters: [{type: RequestRedirect}]}]"), account: "web",
			problem: "spec.rules[0].filters", want: map[string]string{"GET /own": "allow", "GET /f": "unrouted"},
		},
		"a policy of another Server's route": {
			objects: fmt.Sprintf(apiServer, "") + strings.ReplaceAll(route, "name: api}", "name: db}") + routePolicy(gateway, "HTTPRoute", "public"),
			want:    map[string]string{"GET /public": "unmatched", "opaque": "unmatched"},
		},
		"an older authorization": {
			objects: strings.Replace(fmt.Sprintf(apiServer, ""), "namespace: shop", "namespace: shop, labels: {tier: edge}", 1) + older,
			want:    map[string]string{"GET /": "allow", "opaque": "allow"},
		},
		"an older authorization of another Server": {
			objects: fmt.Sprintf(apiServer, "") + older,
			want:    map[string]string{"GET /": "unmatched"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := linkerdTranslation(t, authzPods+tc.objects, tc.problem)
			rules, problems := authz.CompileWorkload(got.Authz["shop/api"])
			if len(problems) > 0 {
				t.Error(problems)
			}
			c := connection(tc.account, "10.9.0.1")
			for request, want := range tc.want {
				method, path, _ := strings.Cut(request, " ")
				d := rules.DecideRequest(c, &authz.Request{Method: method, Path: path})
				if request == "opaque" {
					d = rules.DecideRequest(c, nil)
				}
				is := d.Why.String()
				if d.Verdict == authz.Allow {
					is = "allow"
				}
				if is != want {
					t.Errorf("%s: got %s (%+v), want %s", request, is, d.Outcome, want)
				}
			}
			for _, w := range got.Workloads {
				spec := got.Authz[w.UID]
				if spec == nil {
					spec = &authz.Spec{}
				}
				rules, _ := authz.CompileWorkload(spec)
				if is := rules.NeedsRequests(0); w.RequestRules != is {
					t.Errorf("%s: request rules %v, want %v", w.Name, w.RequestRules, is)
				}
			}
			// The order in which the objects come makes no difference.
			o, _ := watch.Decode([]byte(authzPods + tc.objects))
			slices.Reverse(o.HTTPRoutes)
			slices.Reverse(o.PolicyObjects)
			if diff := cmp.Diff(got.Authz, translate.Translate(o, "cluster.local").Authz, comparePrefixes); diff != "" {
				t.Error("another order, -want +got:", diff)
			}
		})
	}
}

// TestServerRouteStatus: a route says whether it belongs to its Server, beside what it says of a
// Service.
func TestServerRouteStatus(t *testing.T) {
	for name, tc := range map[string]struct {
		server, kind, rules string
		status, reason      string
		says                string
	}{
		"in effect":           {"", "HTTPRoute", "[{matches: [{path: {value: /a}}]}]", "True", "Accepted", ""},
		"a costly expression": {"", "HTTPRoute", "[{matches: [{path: {type: RegularExpression, value: \"/(a{40}b{40}c{40}){20}\"}}]}]", "False", "UnsupportedValue", "instructions"},
		"a filter":            {"", "HTTPRoute", "[{filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]}]", "False", "UnsupportedValue", "filters"},
		"of another protocol": {", proxyProtocol: gRPC", "HTTPRoute", "[{matches: [{path: {value: /a}}]}]", "False", "NoMatchingParent", "gRPC"},
		"of gRPC":             {", proxyProtocol: gRPC", "GRPCRoute", "[{matches: [{method: {service: a.B}}]}]", "True", "Accepted", ""},
	} {
		objects := fmt.Sprintf(apiServer, tc.server) + serverRoute(gateway+"/v1", tc.kind, "r", tc.rules)
		got := linkerdTranslation(t, authzPods+objects, map[bool]string{true: tc.says}[tc.reason == "UnsupportedValue"])
		if len(got.RouteStatuses) != 1 || len(got.RouteStatuses[0].Parents) != 1 || got.RouteStatuses[0].Kind != tc.kind {
			t.Errorf("%s: got %+v", name, got.RouteStatuses)
			continue
		}
		is := got.RouteStatuses[0].Parents[0].Conditions[0]
		if string(is.Status) != tc.status || is.Reason != tc.reason || !strings.Contains(is.Message, tc.says) {
			t.Errorf("%s: got %+v, want %s for %s: %s", name, is, tc.status, tc.reason, tc.says)
		}
	}
	both := strings.Replace(serverRoute(gateway+"/v1", "HTTPRoute", "r", "[{matches: [{path: {value: /a}}], backendRefs: [{name: nothing, port: 80}]}]"), "parentRefs: [", "parentRefs: [{group: \"\", kind: Service, name: web, port: 80}, ", 1)
	got := linkerdTranslation(t, authzPods+both, "there is no Service")
	if len(got.RouteStatuses) != 1 || len(got.RouteStatuses[0].Parents) != 2 {
		t.Fatalf("a Service and a Server: got %+v", got.RouteStatuses)
	}
	for _, p := range got.RouteStatuses[0].Parents {
		if p.ParentRef.Kind != nil && *p.ParentRef.Kind == "Server" && (p.Conditions[0].Reason != "NoMatchingParent" || !strings.Contains(p.Conditions[0].Message, "does not exist")) {
			t.Errorf("a Server that does not exist: got %+v", p.Conditions[0])
		}
	}
}

// TestServerRateLimits: a limit applies to the ports of its Server.
func TestServerRateLimits(t *testing.T) {
	const limit = `---
apiVersion: policy.linkerd.io/v1alpha1
kind: HTTPLocalRateLimitPolicy
metadata: {name: l, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: %s, name: api}
  total: {requestsPerSecond: 100}
  overrides: [{requestsPerSecond: 5, clientRefs: [{kind: ServiceAccount, name: web}]}]
`
	got := linkerdTranslation(t, authzPods+fmt.Sprintf(apiServer, "")+fmt.Sprintf(limit, "Server"), "")
	want := []authz.RateLimit{{
		Policy: "HTTPLocalRateLimitPolicy.policy.linkerd.io shop/l", Ports: []authz.PortRange{authz.Port(8080)}, Total: 100,
		Overrides: []authz.RateOverride{{RequestsPerSecond: 5, Clients: []mesh.Identity{{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "web"}}}},
	}}
	if diff := cmp.Diff(want, got.Authz["shop/api"].RateLimits); diff != "" {
		t.Error("-want +got:", diff)
	}
	for _, w := range got.Workloads {
		if w.RequestRules {
			t.Errorf("%s: a limit alone takes the same-node shortcut away", w.Name)
		}
	}
	linkerdTranslation(t, authzPods+fmt.Sprintf(apiServer, "")+fmt.Sprintf(limit, "HTTPRoute"), "the kind is not known")
	if got := linkerdTranslation(t, authzPods+fmt.Sprintf(apiServer, ", proxyProtocol: opaque")+fmt.Sprintf(limit, "Server"), "there are no requests"); len(got.Authz["shop/api"].RateLimits) > 0 {
		t.Error("an opaque Server has a limit of requests")
	}
}

var comparePrefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func connection(account, addr string) *authz.Connection {
	c := &authz.Connection{Port: 8080, Client: netip.MustParseAddr(addr)}
	if account != "" {
		c.Peer = authz.PeerOf(mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: account})
	}
	return c
}

// linkerdTranslation translates objects, which have a problem that says so, or none.
func linkerdTranslation(t *testing.T, text, problem string) translate.Result {
	t.Helper()
	o, err := watch.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	got := translate.Translate(o, "cluster.local")
	said := fmt.Sprint(got.Problems)
	if (problem == "") != (len(got.Problems) == 0) || !strings.Contains(said, problem) {
		t.Errorf("problems: got %s, want %q", said, problem)
	}
	return got
}
