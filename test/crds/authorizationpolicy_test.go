package crds

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/underlane/underlane/pkg/controller/ownpolicy"
)

const policyHead = `
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: p}
spec: `

// read returns what the controller does not understand of an object, "" for nothing.
func read(t *testing.T, o map[string]any) string {
	t.Helper()
	data, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	p, ok, err := ownpolicy.Read(data, "home")
	if err != nil || !ok {
		t.Fatalf("%s: got %v, %v", data, ok, err)
	}
	var all []string
	for _, problem := range p.Problems {
		all = append(all, problem.String())
	}
	return strings.Join(all, "; ")
}

const pods = "targetRefs: [{group: '', kind: Pod, selector: {}}]"

func level(rules string) string {
	return "{" + pods + ", action: ALLOW, enforcementLevel: Application, rules: " + rules + "}"
}

func inline(s string) string { return level("[{authorization: {type: Inline, " + s + "}}]") }

func condition(s string) string {
	return level("[{authorization: {type: CEL, cel: {expression: '" + s + "'}}}]")
}

// TestAuthorizationPolicies: objects, what an API server says of each, and what the controller
// does. "": it takes it.
func TestAuthorizationPolicies(t *testing.T) {
	d := load(t, "authorizationpolicy.yaml")
	for _, c := range []struct{ spec, server, controller string }{
		{"{" + pods + ", action: ALLOW, enforcementLevel: Network}", "", ""},
		{"{" + pods + ", action: AUDIT, enforcementLevel: Network, rules: [{}, {sources: []}]}", "", ""},
		{"{targetRefs: [{group: core, kind: Pod, selector: {matchExpressions: [{key: a, operator: In, values: [b]}]}}], action: DENY, enforcementLevel: Network}", "", ""},
		{level("[{sources: [{type: SPIFFE, spiffe: 'spiffe://td/a'}, {type: ServiceAccount, serviceAccount: {name: '*', namespace: a}}]}]"), "", ""},
		{inline("methods: [GET], paths: [{value: /a}, {}], headers: [{name: a, value: b}], hosts: ['*.a.b'], ports: [1, 65535]"), "", ""},
		{condition(`request.path == "/a"`), "", ""},
		{level("[{name: a, networkAttributes: {ports: [80]}, authorization: {type: CEL, cel: {expression: 'true'}}}, {name: b}]"), "", ""},

		// Both refuse.
		{"{}", "Required value", "targetRefs"},
		{"{action: ALLOW, enforcementLevel: Network, targetRefs: []}", "at least 1 items", "0 references"},
		{"{action: ALLOW, enforcementLevel: Network, targetRefs: [{group: '', kind: Pod}]}", "selected by a selector", "no selector"},
		{"{action: ALLOW, enforcementLevel: Network, targetRefs: [{group: '', kind: Pod, name: a, selector: {}}]}", "not by a name", "not by a name"},
		{"{action: ALLOW, enforcementLevel: Network, targetRefs: [{group: '', kind: Service, selector: {}}]}", "only pods", "kind Service"},
		{"{action: ALLOW, enforcementLevel: Network, targetRefs: [{group: '', kind: Pod, selector: {matchExpressions: [{key: a, operator: Like}]}}]}", "Unsupported value", "Like"},
		{"{" + pods + ", action: LOG, enforcementLevel: Network}", "Unsupported value", "action"},
		{"{" + pods + ", action: ALLOW, enforcementLevel: Host}", "Unsupported value", "enforcementLevel"},
		{"{" + pods + ", action: ALLOW, enforcementLevel: Network, rules: [{authorization: {type: Inline}}]}", "need the enforcementLevel Application", "enforcement level"},
		{level("[{sources: [{type: SPIFFE, serviceAccount: {name: a}}]}]"), "want the field of the type", "the field of that type"},
		{level("[{sources: [{type: SPIFFE, spiffe: 'spiffe://td/a', serviceAccount: {name: a}}]}]"), "want the field of the type", "the field of that type"},
		{level("[{sources: [{type: Group}]}]"), "Unsupported value", "Group"},
		{level("[{sources: [{type: SPIFFE, spiffe: 'https://td/a'}]}]"), "should match", "SPIFFE ID"},
		{level("[{sources: [{type: ServiceAccount, serviceAccount: {name: 'a*'}}]}]"), "should match", "may be *"},
		{level("[{sources: [{type: ServiceAccount, serviceAccount: {}}]}]"), "Required value", "has a namespace and a name"},
		{level("[{networkAttributes: {ports: [0]}}]"), "should be greater than or equal to 1", "0"},
		{level("[{networkAttributes: {ports: [65536]}}]"), "should be less than or equal to 65535", "65536"},
		{level("[{networkAttributes: {ports: ['80']}}]"), "must be of type integer", "string"},
		{level("[{authorization: {}}]"), "Required value", "authorization.type"},
		{inline("methods: [get]"), "Unsupported value", "get"},
		{inline("paths: [{type: Glob}]"), "Unsupported value", "Glob"},
		{inline("headers: [{name: a}]"), "Required value", "has no value"},
		{inline("headers: [{name: 'a b', value: c}]"), "should match", "header"},
		{inline("hosts: ['a.*']"), "should match", "hosts"},
		{inline("cel: {expression: 'true'}"), "want the field cel alone, otherwise no cel", "authorization.cel"},
		{level("[{authorization: {type: CEL}}]"), "want the field cel alone", "CEL without cel"},
		{level("[{authorization: {type: CEL, methods: [GET], cel: {expression: 'true'}}}]"), "want the field cel alone", "another field than cel"},
		{level("[{authorization: {type: CEL, ports: [80], cel: {expression: 'true'}}}]"), "want the field cel alone", "another field than cel"},
		{level("[{authorization: {type: CEL, cel: {}}}]"), "Required value", "expression"},
		{condition(""), "at least 1 chars", "expression"},
		{condition(strings.Repeat("x", 2049)), "may not be more than 2048", "more than 2048"},

		// Only the controller can tell. The status says so.
		{condition("nobody"), "", "undeclared reference"},
		{condition("request.path"), "", "want bool"},
		{inline("paths: [{value: a}]"), "", "begins with /"},
		{inline("paths: [{type: RegularExpression, value: '('}]"), "", "missing closing"},
		{inline("headers: [{name: Host, value: a}]"), "", "host"},
		{level("[" + strings.Repeat("{authorization: {type: CEL, cel: {expression: 'true'}}}, ", 17) + "]"), "", "more than 16"},

		// Only the server refuses: bounds and habits, without an effect on decisions.
		{level("[{name: a}, {name: a}]"), "names of rules are unique", ""},
		{level("[{name: A}]"), "should match", ""},
		{inline("ports: [80, 80]"), "Duplicate value", ""},
		{level("[" + strings.Repeat("{}, ", 65) + "]"), "at most 64 items", ""},
	} {
		o := object(t, policyHead, c.spec)
		controller := read(t, o)
		pruned, err := d.create(o)
		server := ""
		if err != nil {
			server = err.Error()
		}
		if (server == "") != (c.server == "") || !strings.Contains(server, c.server) {
			t.Errorf("%.300s: an API server says %q, want %q", c.spec, server, c.server)
		}
		if (controller == "") != (c.controller == "") || !strings.Contains(controller, c.controller) {
			t.Errorf("%.300s: the controller says %q, want %q", c.spec, controller, c.controller)
		}
		if len(pruned) > 0 {
			t.Errorf("%.300s: the fields %v are dropped, so that the controller does not see them", c.spec, pruned)
		}
		if err == nil { // with the defaults that the server has filled in
			if again := read(t, o); again != controller {
				t.Errorf("%.300s: the controller says %q after the server's defaults, and %q before", c.spec, again, controller)
			}
		}
	}
}

// whole are objects with all fields that there are.
var whole = []string{
	`{targetRefs: [{group: core, kind: Pod, selector: {matchLabels: {app: a}, matchExpressions: [{key: b, operator: In, values: [c]}]}}],
	action: DENY, enforcementLevel: Application, rules: [{
		name: a, sources: [{type: ServiceAccount, serviceAccount: {name: a, namespace: b}}, {type: SPIFFE, spiffe: 'spiffe://td/a'}],
		networkAttributes: {ports: [80]},
		authorization: {type: Inline, methods: [GET], paths: [{type: Exact, value: /a}], headers: [{type: Exact, name: a, value: b}], hosts: [a.b], ports: [80]}
	}]}`,
	condition("true"),
}

// TestUnknownFields: the server keeps a field that is not known, in each place, and the
// controller refuses it. If the server dropped it, the rule would match more.
func TestUnknownFields(t *testing.T) {
	d := load(t, "authorizationpolicy.yaml")
	for _, spec := range whole {
		places := 0
		each(object(t, policyHead, spec)["spec"], "spec", func(at string, _ func(any), v any) {
			if _, ok := v.(map[string]any); !ok || strings.HasSuffix(at, "matchLabels") {
				return
			}
			places++
			o := object(t, policyHead, spec)
			each(o["spec"], "spec", func(other string, _ func(any), v any) {
				if other == at {
					v.(map[string]any)["except"] = "x"
				}
			})
			if got := read(t, o); !strings.Contains(got, "except") {
				t.Errorf("%s.except: the controller says %q", at, got)
			}
			if pruned, err := d.create(o); err != nil || len(pruned) > 0 {
				t.Errorf("%s.except: an API server says %v, and drops %v; want it kept for the controller", at, err, pruned)
			}
		})
		if places < 4 {
			t.Errorf("%d places for fields in %s", places, spec)
		}
	}
}

// TestWrongTypes: a value of another type is refused by both, in each place.
func TestWrongTypes(t *testing.T) {
	d := load(t, "authorizationpolicy.yaml")
	for _, spec := range whole {
		var places []string
		each(object(t, policyHead, spec)["spec"], "spec", func(at string, _ func(any), _ any) { places = append(places, at) })
		for _, place := range places {
			o := object(t, policyHead, spec)
			tree := map[string]any{"spec": o["spec"]}
			each(tree, "", func(at string, set func(any), v any) {
				if strings.TrimPrefix(at, ".") != place {
					return
				}
				if _, ok := v.(string); ok {
					set([]any{})
				} else {
					set("x")
				}
			})
			o["spec"] = tree["spec"]
			if got := read(t, o); got == "" {
				t.Errorf("%s: the controller takes a value of another type", place)
			}
			if _, err := d.create(runtime.DeepCopyJSON(o)); err == nil {
				t.Errorf("%s: an API server takes a value of another type", place)
			}
		}
	}
}

// each calls do for v and everything in it, with its place and a function that replaces it.
func each(v any, at string, do func(at string, set func(any), v any)) { walk(v, at, func(any) {}, do) }

func walk(v any, at string, set func(any), do func(at string, set func(any), v any)) {
	do(at, set, v)
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			walk(v[name], at+"."+name, func(other any) { v[name] = other }, do)
		}
	case []any:
		for i := range v {
			walk(v[i], fmt.Sprintf("%s[%d]", at, i), func(other any) { v[i] = other }, do)
		}
	}
}
