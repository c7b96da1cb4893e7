package translate_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/route"
)

const routedServices = `---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-v2, namespace: shop}
spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}]}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: EgressNetwork
metadata: {name: outside, namespace: shop}
spec: {trafficPolicy: Allow}
`

// routeOf is a route of two rules, the first of which has more.
func routeOf(apiVersion, kind, parent, more string) string {
	return fmt.Sprintf(`---
apiVersion: %s
kind: %s
metadata: {name: r, namespace: shop, generation: 4}
spec:
  parentRefs: [%s]
  rules:
  - matches: [{path: {value: /one}%s}]
    backendRefs: [{name: web-v2, port: 80, weight: 3}]
    timeouts: {request: 1s}
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: A, value: b}]}}]
  - {name: rest, backendRefs: [{name: web, port: 80}]}
`, apiVersion, kind, parent, more)
}

const (
	toService = `{group: core, kind: Service, name: web, port: 80}`
	toNetwork = `{group: policy.linkerd.io, kind: EgressNetwork, name: outside, port: 80}`
	linkerd   = "policy.linkerd.io/v1beta3"
)

func translated(t *testing.T, text string) translate.Result {
	t.Helper()
	o, err := watch.Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return translate.Translate(o, "cluster.local")
}

// TestLinkerdHTTPRoutes: an HTTPRoute of policy.linkerd.io does what one of the Gateway API does,
// also beside one of the same name, and has a status of the same shape.
func TestLinkerdHTTPRoutes(t *testing.T) {
	for _, parent := range []string{toService, toNetwork, `{group: "", kind: Service, name: nothing}`} {
		theirs := translated(t, routedServices+routeOf(linkerd, "HTTPRoute", parent, ""))
		gateways := translated(t, routedServices+routeOf(gateway+"/v1", "HTTPRoute", parent, ""))
		both := translated(t, routedServices+routeOf(linkerd, "HTTPRoute", parent, "")+routeOf(gateway+"/v1", "HTTPRoute", parent, ""))
		if len(theirs.Routes) != len(gateways.Routes) || len(both.Routes) != 2*len(theirs.Routes) {
			t.Errorf("%s: %d routes, %d of the Gateway API, %d of both", parent, len(theirs.Routes), len(gateways.Routes), len(both.Routes))
			continue
		}
		for i, r := range theirs.Routes {
			if r.Kind != "HTTPRoute.policy.linkerd.io" {
				t.Errorf("%s: kind %s", parent, r.Kind)
			}
			if diff := cmp.Diff(gateways.Routes[i], r, cmpopts.IgnoreFields(mesh.Route{}, "Kind")); diff != "" {
				t.Errorf("%s: -Gateway API +Linkerd: %s", parent, diff)
			}
		}
		statuses := func(r *translate.Result, kind string) (out []translate.RouteStatus) {
			for _, s := range r.RouteStatuses {
				if s.Kind == kind {
					s.Kind = ""
					out = append(out, s)
				}
			}
			return out
		}
		want := statuses(&gateways, "HTTPRoute")
		for _, r := range []*translate.Result{&theirs, &both} {
			if diff := cmp.Diff(want, statuses(r, "HTTPRoute.policy.linkerd.io")); diff != "" || len(want) != 1 {
				t.Errorf("%s: status: %d, %s", parent, len(want), diff)
			}
		}
	}
}

// TestLinkerdHTTPRouteOfBoth: a route with a Server and a Service as parents has one status.
func TestLinkerdHTTPRouteOfBoth(t *testing.T) {
	text := authzPods + fmt.Sprintf(apiServer, "") + routedServices + routeOf(linkerd, "HTTPRoute", toService+", {group: policy.linkerd.io, kind: Server, name: api}", "")
	got := translated(t, text)
	var kinds []string
	for _, s := range got.RouteStatuses {
		if s.Name == "r" {
			kinds = append(kinds, s.Kind)
			for _, p := range s.Parents {
				kinds = append(kinds, string(*p.ParentRef.Kind)+" "+p.Conditions[0].Reason)
			}
		}
	}
	// The Server says that its routes have no filters.
	if diff := cmp.Diff([]string{"HTTPRoute.policy.linkerd.io", "Server UnsupportedValue", "Service Accepted"}, kinds); diff != "" || len(got.Routes) != 1 {
		t.Error(diff, got.Routes)
	}
}

// TestLinkerdHTTPRouteGoes: nothing is left of one that is deleted, or that has lost its parent.
func TestLinkerdHTTPRouteGoes(t *testing.T) {
	decode := func(text string) *translate.Objects {
		o, err := watch.Decode([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	with, without := decode(routedServices+routeOf(linkerd, "HTTPRoute", toService, "")), decode(routedServices)
	tr := translate.New(translate.Config{TrustDomain: "cluster.local"})
	for i, o := range []*translate.Objects{with, without, with} {
		from := &translate.Objects{}
		if i > 0 {
			from = []*translate.Objects{with, without}[i-1]
		}
		tr.Apply(translate.Diff(from, o))
		if got, want := len(tr.Result().Routes), len(o.PolicyObjects); got != want {
			t.Errorf("%d: %d routes, want %d", i, got, want)
		}
	}
}

// TestUnknownFieldsOfRoutes: what may be matched less, or filtered more, by a field that is not
// known is refused, and the status says so. Other rules go on.
func TestUnknownFieldsOfRoutes(t *testing.T) {
	for name, tc := range map[string]struct {
		parent, kind string
		field        string
		refused      []bool // by rule
	}{
		"a match":                      {toService, "HTTPRoute", "spec.rules[0].matches[0].cookies", []bool{true, false}},
		"a filter of the second rule":  {toService, "HTTPRoute", "spec.rules[1].filters[0].cors", []bool{false, true}},
		"of no rule":                   {toService, "HTTPRoute", "spec.audience", []bool{true, true}},
		"of a parent":                  {toService, "HTTPRoute", "spec.parentRefs[0].clients", []bool{true, true}},
		"of an EgressNetwork's":        {toNetwork, "HTTPRoute", "spec.rules[0].matches[0].cookies", []bool{true, false}},
		"of a rule that is not there":  {toService, "HTTPRoute", "spec.rules[7].name", []bool{true, true}},
		"more than are told":           {toService, "HTTPRoute", "many", []bool{true, true}},
		"a GRPCRoute":                  {toService, "GRPCRoute", "spec.rules[0].matches[0].authority", []bool{true}},
		"a TLSRoute":                   {toNetwork, "TLSRoute", "spec.rules[0].alpn", []bool{true}},
		"a TCPRoute":                   {toNetwork, "TCPRoute", "spec.rules[0].addresses", []bool{true}},
		"a route of policy.linkerd.io": {toService, "linkerd", "", []bool{true, false}},
	} {
		t.Run(name, func(t *testing.T) {
			text := routedServices
			switch tc.kind {
			case "HTTPRoute":
				text += routeOf(gateway+"/v1", tc.kind, tc.parent, "")
			case "linkerd":
				text += routeOf(linkerd, "HTTPRoute", tc.parent, ", cookies: [x]")
			default:
				text += fmt.Sprintf("---\napiVersion: %s/v1\nkind: %s\nmetadata: {name: r, namespace: shop}\nspec: {parentRefs: [%s], rules: [{backendRefs: [{name: web-v2, port: 80}]}]}\n", gateway, tc.kind, tc.parent)
			}
			o, err := watch.Decode([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			fields := []string{tc.field}
			if tc.field == "many" {
				for i := range 20 {
					fields = append(fields, fmt.Sprintf("spec.rules[0].f%d", i))
				}
				fields = fields[1:]
			}
			var objects []metav1.Object
			for _, r := range o.HTTPRoutes {
				objects = append(objects, r)
			}
			for _, r := range o.GRPCRoutes {
				objects = append(objects, r)
			}
			for _, r := range o.TLSRoutes {
				objects = append(objects, r)
			}
			for _, r := range o.TCPRoutes {
				objects = append(objects, r)
			}
			for _, r := range objects {
				custom.SetUnknownFields(r, fields)
			}
			got := translate.Translate(o, "cluster.local")
			if len(got.Routes) != 1 || len(got.Routes[0].Rules) != len(tc.refused) {
				t.Fatalf("routes: %+v", got.Routes)
			}
			for i, r := range got.Routes[0].Rules {
				if (r.Filters.Invalid != "") != tc.refused[i] {
					t.Errorf("rule %d: refused for %q, want refused %v", i, r.Filters.Invalid, tc.refused[i])
				}
			}
			if _, err := route.Compile(got.Routes); err != nil {
				t.Error(err)
			}
			accepted := false
			for _, s := range got.RouteStatuses {
				if s.Name != "r" {
					continue
				}
				accepted = s.Parents[0].Conditions[0].Status == metav1.ConditionTrue || s.Parents[0].Conditions[0].Reason != "UnsupportedValue" ||
					!strings.Contains(s.Parents[0].Conditions[0].Message, "is not known")
			}
			if accepted || !strings.Contains(fmt.Sprint(got.Problems), "is not known") {
				t.Errorf("statuses %+v, problems %v", got.RouteStatuses, got.Problems)
			}
		})
	}
}

// TestUnknownFieldsOfServersRoutes: a rule of which something is not known refuses its requests, and
// the status says so. No request belongs to a route that may be about any.
func TestUnknownFieldsOfServersRoutes(t *testing.T) {
	text := authzPods + fmt.Sprintf(apiServer, "") + serverRoute(gateway+"/v1", "HTTPRoute", "public", "[{matches: [{path: {value: /public}}]}]") + routePolicy(gateway, "HTTPRoute", "public")
	for field, want := range map[string]int{"spec.rules[0].matches[0].cookies": 1, "spec.rules[0].cookies": 1, "spec.cookies": 0, "spec": 0} {
		o, err := watch.Decode([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		custom.SetUnknownFields(o.HTTPRoutes[0], []string{field})
		got := translate.Translate(o, "cluster.local")
		for _, g := range got.Authz["shop/api"].Groups {
			if len(g.Routes) != want || !g.Routed {
				t.Errorf("%s: group %+v", field, g)
			}
			for _, r := range g.Routes {
				if r.Match.Rules[0].Filters.Invalid == "" {
					t.Errorf("%s: rule %+v does not refuse", field, r.Match.Rules[0])
				}
			}
		}
		if c := got.RouteStatuses[0].Parents[0].Conditions[0]; c.Reason != "UnsupportedValue" || !strings.Contains(c.Message, field+" is not known") {
			t.Errorf("%s: status %+v", field, c)
		}
	}
}

// TestBrokenRoutesOfANetwork: a route to the outside that is not understood refuses, also where
// the network allows all else.
func TestBrokenRoutesOfANetwork(t *testing.T) {
	for name, text := range map[string]string{
		"a match of a type that is not known": strings.Replace(routeOf(gateway+"/v1", "HTTPRoute", toNetwork, ""), "{value: /one}", "{type: Suffix, value: /one}", 1),
		"a host that is none":                 strings.Replace(routeOf(gateway+"/v1", "HTTPRoute", toNetwork, ""), "  rules:", "  hostnames: ['*.*.example.com']\n  rules:", 1),
	} {
		got := translated(t, routedServices+text)
		if len(got.Routes) != 1 {
			t.Fatalf("%s: %+v, %v", name, got.Routes, got.Problems)
		}
		// With a match, it is the first rule that refuses, and whatever path; with a host, all.
		r := got.Routes[0]
		if len(r.Rules) != 2 || r.Rules[0].Filters.Invalid == "" || (r.Rules[1].Filters.Invalid == "") != strings.Contains(name, "match") || len(r.Hostnames) > 0 {
			t.Errorf("%s: %+v", name, r)
		}
		if p := r.Rules[0].Matches[0].Path; strings.Contains(name, "match") && p != (mesh.PathMatch{Kind: mesh.PathUnknown}) {
			t.Errorf("%s: %+v", name, p)
		}
		if _, err := route.Compile(got.Routes); err != nil {
			t.Error(name, err)
		}
	}
}

// TestLinkerdRateLimitStatus: in the words of Linkerd's controller.
func TestLinkerdRateLimitStatus(t *testing.T) {
	limit := func(name, kind, server, more string) string {
		return fmt.Sprintf("---\napiVersion: policy.linkerd.io/v1alpha1\nkind: HTTPLocalRateLimitPolicy\nmetadata: {name: %s, namespace: shop, generation: 3}\nspec: {targetRef: {group: policy.linkerd.io, kind: %s, name: %s}, total: {requestsPerSecond: 5}%s}\n", name, kind, server, more)
	}
	for name, tc := range map[string]struct {
		server, objects string
		want            map[string]string // by name: "STATUS REASON: part of the message"
	}{
		"in effect":       {"", limit("l", "Server", "api", ""), map[string]string{"l": "True Accepted: "}},
		"a second one":    {"", limit("a", "Server", "api", "") + limit("b", "Server", "api", ""), map[string]string{"a": "True Accepted: ", "b": "False RateLimitReasonAlreadyExists: "}},
		"no such Server":  {"", limit("l", "Server", "web", ""), map[string]string{"l": "False NoMatchingTarget: "}},
		"of another kind": {"", limit("l", "HTTPRoute", "api", ""), map[string]string{"l": "False NoMatchingTarget: "}},
		"without requests": {
			", proxyProtocol: opaque", limit("l", "Server", "api", ""), map[string]string{"l": "False Invalid: there are no requests"},
		},
		"an unknown field": {"", limit("l", "Server", "api", ", burst: 7"), map[string]string{"l": "False Invalid: burst: is not known"}},
	} {
		got := translated(t, authzPods+fmt.Sprintf(apiServer, tc.server)+tc.objects)
		if len(got.RouteStatuses) != len(tc.want) {
			t.Errorf("%s: %+v", name, got.RouteStatuses)
		}
		for _, s := range got.RouteStatuses {
			c := s.Parents[0].Conditions[0]
			head, message, _ := strings.Cut(tc.want[s.Name], ": ")
			if s.Kind != "HTTPLocalRateLimitPolicy.policy.linkerd.io" || string(c.Status)+" "+c.Reason != head || !strings.Contains(c.Message, message) || message == "" && c.Message != "" {
				t.Errorf("%s: %+v", name, s)
			}
			if c.ObservedGeneration != 0 || *s.Parents[0].ParentRef.Group != "policy.linkerd.io" {
				t.Errorf("%s: %+v", name, s)
			}
		}
	}
}
