package ownpolicy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/underlane/underlane/pkg/policy/authz"
)

const head = `
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {namespace: shop, name: p, generation: 4}
spec: `

func read(t *testing.T, spec string) *Policy {
	t.Helper()
	object, err := yaml.YAMLToJSON([]byte(head + spec))
	if err != nil {
		t.Fatal(err)
	}
	p, ok, err := Read(object, "home")
	if err != nil || !ok {
		t.Fatalf("%s: got %v, %v", spec, ok, err)
	}
	return p
}

const all = "targetRefs: [{group: '', kind: Pod, selector: {}}], "

// TestDecisions has the cases that GEP-3779 and XAccessPolicy describe. want has a letter for
// each of five calls, a for allowed:
// shop/web GET /cart on 80, shop/web POST /pay on 8080, away's shop/web GET /cart on 80, no
// identity GET /cart on 80, and shop/web's bytes on 80 that are no HTTP.
func TestDecisions(t *testing.T) {
	for spec, want := range map[string]string{
		"action: ALLOW, enforcementLevel: Network}":                                                                                                                             "ddddd",
		"action: DENY, enforcementLevel: Network}":                                                                                                                              "aaaaa",
		"action: AUDIT, enforcementLevel: Network, rules: [{}]}":                                                                                                                "aaaaa",
		"action: ALLOW, enforcementLevel: Network, rules: [{}]}":                                                                                                                "aaaaa",
		"action: DENY, enforcementLevel: Network, rules: [{}]}":                                                                                                                 "ddddd",
		"action: ALLOW, enforcementLevel: Network, rules: [{sources: []}]}":                                                                                                     "ddddd",
		"action: DENY, enforcementLevel: Network, rules: [{sources: []}]}":                                                                                                      "aaaaa",
		"action: ALLOW, enforcementLevel: Network, rules: [{sources: [{type: ServiceAccount, serviceAccount: {name: web}}]}]}":                                                  "aadda",
		"action: ALLOW, enforcementLevel: Network, rules: [{sources: [{type: ServiceAccount, serviceAccount: {name: '*'}}]}]}":                                                  "aadda",
		"action: ALLOW, enforcementLevel: Network, rules: [{sources: [{type: ServiceAccount, serviceAccount: {name: web, namespace: x}}]}]}":                                    "ddddd",
		"action: DENY, enforcementLevel: Network, rules: [{sources: [{type: ServiceAccount, serviceAccount: {name: web}}]}]}":                                                   "ddaad",
		"action: ALLOW, enforcementLevel: Network, rules: [{sources: [{type: SPIFFE, spiffe: 'spiffe://away/ns/shop/sa/web'}]}]}":                                               "ddadd",
		"action: ALLOW, enforcementLevel: Network, rules: [{networkAttributes: {ports: [80]}}]}":                                                                                "adaaa",
		"action: ALLOW, enforcementLevel: Network, rules: [{networkAttributes: {}}]}":                                                                                           "aaaaa",
		"action: ALLOW, enforcementLevel: Network, rules: [{networkAttributes: {ports: [8080]}}, {networkAttributes: {ports: [80]}}]}":                                          "aaaaa",
		"action: ALLOW, enforcementLevel: Application, rules: [{authorization: {type: Inline}}]}":                                                                               "aaaaa",
		"action: ALLOW, enforcementLevel: Application, rules: [{authorization: {type: Inline, methods: [GET]}}]}":                                                               "adaad",
		"action: ALLOW, enforcementLevel: Application, rules: [{authorization: {type: Inline, paths: [{value: /pay}]}}]}":                                                       "daddd",
		"action: ALLOW, enforcementLevel: Application, rules: [{authorization: {type: Inline, paths: [{value: /ca}]}}]}":                                                        "ddddd",
		"action: ALLOW, enforcementLevel: Application, rules: [{authorization: {type: Inline, paths: [{type: RegularExpression, value: '/c.*'}]}}]}":                            "adaad",
		"action: ALLOW, enforcementLevel: Application, rules: [{authorization: {type: Inline, hosts: ['*.example']}}]}":                                                         "aaaad",
		"action: ALLOW, enforcementLevel: Application, rules: [{authorization: {type: Inline, hosts: [example]}}]}":                                                             "ddddd",
		"action: ALLOW, enforcementLevel: Application, rules: [{authorization: {type: Inline, headers: [{name: X-Role, value: admin}]}}]}":                                      "aaaad",
		"action: ALLOW, enforcementLevel: Application, rules: [{authorization: {type: Inline, headers: [{name: X-Role, value: guest}]}}]}":                                      "ddddd",
		"action: ALLOW, enforcementLevel: Application, rules: [{networkAttributes: {ports: [80]}, authorization: {type: Inline, ports: [8080]}}]}":                              "ddddd",
		"action: ALLOW, enforcementLevel: Application, rules: [{networkAttributes: {ports: [80, 8080]}, authorization: {type: Inline, ports: [8080]}}]}":                        "daddd",
		`action: ALLOW, enforcementLevel: Application, rules: [{authorization: {type: CEL, cel: {expression: 'request.method == "GET"'}}}]}`:                                    "adaad",
		`action: ALLOW, enforcementLevel: Application, rules: [{authorization: {type: CEL, cel: {expression: 'source.namespace == "shop" && source.trustDomain == "home"'}}}]}`: "aaddd",
		`action: ALLOW, enforcementLevel: Application, rules: [{authorization: {type: CEL, cel: {expression: 'request.headers["x-no"] == "1"'}}}]}`:                             "ddddd",
		`action: DENY, enforcementLevel: Application, rules: [{authorization: {type: CEL, cel: {expression: 'request.path == "/pay"'}}}]}`:                                      "adaad",
		`action: DENY, enforcementLevel: Application, rules: [{authorization: {type: CEL, cel: {expression: 'request.headers["x-no"] == "1"'}}}]}`:                              "ddddd",
		`action: DENY, enforcementLevel: Application, rules: [{networkAttributes: {ports: [8080]}, authorization: {type: CEL, cel: {expression: 'true'}}}]}`:                    "adaaa",
		"action: DENY, enforcementLevel: Application, rules: [{authorization: {type: Inline, methods: [POST]}}]}":                                                               "adaad",
		"action: DENY, enforcementLevel: Application, rules: [{networkAttributes: {ports: [8080]}, authorization: {type: Inline, paths: [{value: /}]}}]}":                       "adaaa",
	} {
		p := read(t, "{"+all+spec)
		if got := decide(p); got != want {
			t.Errorf("%s: got %s, want %s", spec, got, want)
		}
		if len(p.Problems) > 0 {
			t.Errorf("%s: got the problems %v", spec, p.Problems)
		}
	}
}

func decide(p *Policy) (out string) {
	set, _ := authz.Compile([]authz.Policy{p.Authz}, authz.Options{TrustDomain: "home", Default: authz.ModeAllUnauthenticated})
	web := [3]string{"home", "shop", "web"}
	for _, c := range []call{
		{client: web, port: 80, method: "GET", paths: []string{"/cart"}},
		{client: web, port: 8080, method: "POST", paths: []string{"/pay"}},
		{client: [3]string{"away", "shop", "web"}, port: 80, method: "GET", paths: []string{"/cart"}},
		{port: 80, method: "GET", paths: []string{"/cart"}},
		{client: web, port: 80},
	} {
		c.host, c.headers = "cart.example:80", [][2]string{{"x-role", "admin"}}
		out += map[bool]string{true: "a", false: "d"}[c.decide(set).Verdict == authz.Allow]
	}
	return out
}

// TestDoubt: what is not understood is in the condition, allows nothing, and denies what the
// rest of the rule matches.
func TestDoubt(t *testing.T) {
	const rule = "enforcementLevel: Application, rules: [{authorization: {type: Inline, methods: [GET], "
	for spec, tc := range map[string]struct{ says, deny string }{ // decisions, if the action is DENY
		all + "enforcementLevel: Application, rules: [{}], except: []":             {"spec.except", "ddddd"},
		all + "enforcementLevel: Host, rules: [{networkAttributes: {ports: [1]}}]": {`enforcementLevel "Host"`, "ddddd"},
		all + "rules: [{}]": {`enforcementLevel ""`, "ddddd"},
		all + "enforcementLevel: Application, rules: [{networkAttributes: {ports: [8080], protocol: UDP}}]":                                                 {"rules[0].networkAttributes.protocol", "adaaa"},
		all + "enforcementLevel: Application, rules: [{networkAttributes: {ports: [70000]}}]":                                                               {"networkAttributes.ports: 70000", "ddddd"},
		all + "enforcementLevel: Application, rules: [{networkAttributes: {ports: ['80']}}]":                                                                {"cannot be of type string", "ddddd"},
		all + "enforcementLevel: Network, rules: [{authorization: {type: Inline, methods: [POST]}}]":                                                        {"authorization", "adaad"},
		all + rule + "cel: {expression: 'true'}}}]":                                                                                                         {"authorization.cel", "daddd"},
		all + rule + "mcp: {methods: []}}}]":                                                                                                                {"authorization.mcp", "daddd"},
		all + "enforcementLevel: Application, rules: [{authorization: {type: CEL}}]":                                                                        {"authorization.type CEL without cel", "ddddd"},
		all + "enforcementLevel: Application, rules: [{authorization: {type: CEL, methods: [GET], cel: {expression: 'true'}}}]":                             {"another field than cel", "daddd"},
		all + "enforcementLevel: Application, rules: [{authorization: {type: CEL, cel: {expression: 'true', message: no}}}]":                                {"authorization.cel.message", "ddddd"},
		all + "enforcementLevel: Application, rules: [{authorization: {type: CEL, cel: {expression: 'request.verb == 1'}}}]":                                {"expression: line 1, column 8: undeclared reference to 'request.verb'", "ddddd"},
		all + "enforcementLevel: Application, rules: [{networkAttributes: {ports: [8080]}, authorization: {type: CEL, cel: {expression: 'request.path'}}}]": {"expression: is of the type string, want bool", "adaaa"},
		all + "enforcementLevel: Application, rules: [{authorization: {}}]":                                                                                 {`authorization.type ""`, "ddddd"},
		all + rule + "paths: [{type: Glob, value: /x}]}}]":                                                                                                  {`paths[0]: type "Glob"`, "daddd"},
		all + rule + "paths: [{value: x}]}}]":                                                                                                               {"begins with /", "daddd"},
		all + rule + "paths: [{type: RegularExpression, value: '('}]}}]":                                                                                    {"missing closing", "daddd"},
		all + rule + "hosts: ['a.*']}}]":                                                                                                                    {`hosts: "a.*"`, "daddd"},
		all + rule + "headers: [{name: Host, value: x}]}}]":                                                                                                 {"other than host", "daddd"},
		all + rule + "headers: [{name: x, value: v, type: Prefix}]}}]":                                                                                      {`type "Prefix"`, "daddd"},
		all + "enforcementLevel: Network, rules: [{sources: [{type: Group}]}]":                                                                              {`type "Group"`, "ddddd"},
		all + "enforcementLevel: Network, rules: [{sources: [{type: SPIFFE, spiffe: 'spiffe://home/*'}]}]":                                                  {"SPIFFE ID", "ddddd"},
		all + "enforcementLevel: Network, rules: [{sources: [{type: ServiceAccount, serviceAccount: {name: w*}}]}]":                                         {"only the name may be *", "ddddd"},
		all + "enforcementLevel: Network, rules: [{Sources: []}]":                                                                                           {"spec.rules[0].Sources", "ddddd"},
		"enforcementLevel: Network, rules: [{}]":                                                                                                            {"has 0 references", "ddddd"},
		"targetRefs: [{group: '', kind: Service, name: s}], enforcementLevel: Network, rules: [{}]":                                                         {"the kind Service", "ddddd"},
		"targetRefs: [{group: '', kind: Pod}], enforcementLevel: Network, rules: [{}]":                                                                      {"has no selector", "ddddd"},
		"targetRefs: [{group: '', kind: Pod, selector: {matchExpressions: [{key: a, operator: Like}]}}], enforcementLevel: Network, rules: [{}]":            {"Like", "ddddd"},
	} {
		for action, want := range map[string]string{"ALLOW": "ddddd", "DENY": tc.deny, "AUDIT": "aaaaa"} {
			p := read(t, "{action: "+action+", "+spec+"}")
			if got := decide(p); got != want {
				t.Errorf("%s %s: got %s, want %s", action, spec, got, want)
			}
			c := p.Status("c").Conditions[0]
			if c.Status != "False" || !strings.Contains(c.Message, tc.says) || c.ObservedGeneration != 4 {
				t.Errorf("%s: got the condition %+v, want one that says %q", spec, c, tc.says)
			}
			if !p.Selects("shop", map[string]string{"app": "web"}) || p.Selects("other", nil) {
				t.Errorf("%s: is not about all pods of its namespace, and no others", spec)
			}
		}
	}
	p := read(t, "{"+all+"action: LOG, enforcementLevel: Network}")
	if got := decide(p); got != "ddddd" || len(p.Problems) != 1 {
		t.Errorf("unknown action: got %s, %v", got, p.Problems)
	}
}

func TestSelects(t *testing.T) {
	const rest = ", action: ALLOW, enforcementLevel: Network"
	for selector, want := range map[string]string{ // of pods app=web, app=db tier=back, and without labels
		"{}":                             "111",
		"{matchLabels: {app: web}}":      "100",
		"{matchLabels: {app: db, x: v}}": "000",
		"{matchExpressions: [{key: tier, operator: DoesNotExist}]}":                   "101",
		"{matchExpressions: [{key: app, operator: NotIn, values: [web]}]}":            "011",
		"{matchLabels: {app: db}, matchExpressions: [{key: tier, operator: Exists}]}": "010",
	} {
		p := read(t, "{targetRefs: [{group: core, kind: Pod, selector: "+selector+"}]"+rest+"}")
		got := ""
		for _, pod := range []map[string]string{{"app": "web"}, {"app": "db", "tier": "back"}, nil} {
			got += map[bool]string{true: "1", false: "0"}[p.Selects("shop", pod)]
		}
		if got != want || len(p.Problems) > 0 {
			t.Errorf("%s: got %s, %v, want %s", selector, got, p.Problems, want)
		}
	}
}

// TestHostile: objects of any size fail closed with a short message.
func TestHostile(t *testing.T) {
	mega := strings.Repeat("x", 1<<20)
	list := func(n int, element string) string { return "[" + strings.Repeat(element+",", n-1) + element + "]" }
	spec := func(rules string) string {
		return `{"apiVersion":"policy.underlane.io/v1alpha1","kind":"AuthorizationPolicy","metadata":{"namespace":"a","name":"b"},"spec":{` +
			`"targetRefs":[{"group":"","kind":"Pod","selector":{}}],"action":"ALLOW","enforcementLevel":"Application","rules":` + rules + `}}`
	}
	attributes := func(s string) string { return spec(`[{"authorization":{"type":"Inline",` + s + `}}]`) }
	for name, object := range map[string]string{
		"rules":            spec(list(100_000, `{}`)),
		"sources":          spec(`[{"sources":` + list(100_000, `{"type":"ServiceAccount","serviceAccount":{"name":"a"}}`) + `}]`),
		"bad sources":      spec(list(500, `{"sources":`+list(500, `{"type":"Group"}`)+`}`)),
		"ports":            spec(`[{"networkAttributes":{"ports":` + list(100_000, "80") + `}}]`),
		"paths":            attributes(`"paths":` + list(100_000, `{"value":"/a"}`)),
		"long path":        attributes(`"paths":[{"value":"` + mega + `"}]`),
		"long expression":  attributes(`"paths":[{"type":"RegularExpression","value":"` + mega + `"}]`),
		"large expression": attributes(`"paths":[{"type":"RegularExpression","value":"((((a{1000}){1000}){1000}){1000}"}]`),
		"many unknown":     spec(list(100_000, `{"x":1}`)),
		"unknown, then ok": spec(`[` + strings.Repeat(`{"x":1},`, 200) + `{}]`),
		"deep":             attributes(`"cel":` + strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000)),
		"long CEL":         spec(`[{"authorization":{"type":"CEL","cel":{"expression":"` + mega + `"}}}]`),
		"deep CEL":         spec(`[{"authorization":{"type":"CEL","cel":{"expression":"` + strings.Repeat("(", 2000) + `"}}}]`),
		"many CEL":         spec(list(17, `{"sources":[],"authorization":{"type":"CEL","cel":{"expression":"true"}}}`)),
		"odd text":         attributes(`"methods":["\u0000\ud800"],"hosts":["\u202e.example"],"headers":[{"name":"ﬀ","value":"\u2028"}]`),
		"long name":        spec(`[{"` + mega + `":1}]`),
		"long selector":    strings.Replace(spec(`[{}]`), `"selector":{}`, `"selector":{"matchLabels":{"a":"`+mega+`"}}`, 1),
	} {
		p, ok, err := Read([]byte(object), "home")
		if err != nil || !ok {
			t.Errorf("%s: got %v, %v", name, ok, err)
			continue
		}
		if got := decide(p); got != "ddddd" {
			t.Errorf("%s: got %s, want nothing allowed", name, got)
		}
		c := p.Status("c").Conditions[0]
		if c.Status != "False" || len(c.Message) > 8<<10 {
			t.Errorf("%s: got the condition %s with %d bytes, want False with 8 KiB at most", name, c.Status, len(c.Message))
		}
		size := 0
		for _, p := range p.Problems {
			size += len(p.Text) + len(p.Field)
		}
		if size > 1<<20 {
			t.Errorf("%s: the problems have %d bytes, want less than 1 MiB", name, size)
		}
	}
	for _, other := range []string{`{"kind":"AuthorizationPolicy","apiVersion":"security.istio.io/v1"}`, `{"kind":"Other","apiVersion":"policy.underlane.io/v1alpha1"}`} {
		if _, ok, err := Read([]byte(other), "home"); ok || err != nil {
			t.Errorf("%s: got %v, %v, want another kind", other, ok, err)
		}
	}
	if _, _, err := Read([]byte(strings.Repeat("[", 1<<20)), "home"); err == nil {
		t.Error("a deep object is read")
	}
}

// TestEmpty: an object without a specification denies.
func TestEmpty(t *testing.T) {
	for _, object := range []string{
		`{"apiVersion":"policy.underlane.io/v1alpha1","kind":"AuthorizationPolicy"}`,
		`{"apiVersion":"policy.underlane.io/v1alpha1","kind":"AuthorizationPolicy","spec":null}`,
		`{"apiVersion":"policy.underlane.io/v1alpha1","kind":"AuthorizationPolicy","spec":[]}`,
	} {
		p, ok, err := Read([]byte(object), "home")
		if err != nil || !ok {
			t.Errorf("%s: got %v, %v", object, ok, err)
			continue
		}
		if got := decide(p); got != "ddddd" || len(p.Problems) == 0 {
			t.Errorf("%s: got %s, %v, want it to deny everything", object, got, p.Problems)
		}
	}
}

func TestCopy(t *testing.T) {
	m := &maker{data: []byte(fmt.Sprint(strings.Repeat("xq9!z", 200)))}
	for i := range 50 {
		o := m.object(i % 20).policy
		if diff := cmp.Diff(&o, o.DeepCopy()); diff != "" {
			t.Fatalf("copy (-original +copy):\n%s", diff)
		}
	}
}
