package istiopolicy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/jwt"
)

// load reads objects: KIND NAMESPACE/NAME SPEC, one a line.
func load(t *testing.T, o *Objects, lines ...string) (all []*Object) {
	t.Helper()
	for _, line := range lines {
		kind, rest, _ := strings.Cut(line, " ")
		name, spec, _ := strings.Cut(rest, " ")
		namespace, name, _ := strings.Cut(name, "/")
		text := fmt.Sprintf("apiVersion: security.istio.io/v1\nkind: %s\nmetadata: {namespace: %s, name: %s, generation: 2%s}\nspec: %s", kind, namespace, name, created(name), spec)
		object, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		added, err := o.Add(object)
		if err != nil || added == nil {
			t.Fatalf("%s: got %v, %v", line, added, err)
		}
		all = append(all, added)
	}
	return all
}

// created gives objects with the name old a time before that of the others.
func created(name string) string {
	if strings.HasPrefix(name, "old") {
		return ", creationTimestamp: '2020-01-01T00:00:00Z'"
	}
	return ", creationTimestamp: '2026-01-01T00:00:00Z'"
}

func ofMesh() *Objects {
	return New(Mesh{RootNamespace: "root", TrustDomain: "home", TrustDomainAliases: []string{"old"}})
}

var (
	sleep   = [3]string{"home", "a", "sleep"}
	foreign = [3]string{"away", "b", "web"}
	legacy  = [3]string{"old", "a", "sleep"}
)

// verdicts has a letter for each of these calls of a workload of namespace a, a for allowed,
// ? for those that an authorizer is asked about: sleep GET /info?x on 80; sleep POST
// /data on 8080; away's b/web GET /info on 80; a client without an identity GET /info on 80;
// sleep GET /admin/x.html on 80 with a token and X-Role: admin; sleep's bytes that are no
// HTTP on 80; and those of a client without an identity.
func verdicts(o *Objects, w Workload) (out string) {
	set, _ := authz.Compile(o.For(&w), o.Options())
	for _, c := range []call{
		{client: sleep, port: 80, method: "GET", paths: []string{"/info"}},
		{client: sleep, port: 8080, method: "POST", paths: []string{"/data"}},
		{client: foreign, port: 80, method: "GET", paths: []string{"/info"}},
		{port: 80, method: "GET", paths: []string{"/info"}},
		{client: sleep, port: 80, method: "GET", paths: []string{"/admin/x.html"}, token: [2]string{"iss", "sub"}, headers: [][2]string{{"x-role", "admin"}}, claims: [][2]string{{"groups", "g1"}, {"realm.roles", "r1"}, {"aud", "shop"}}},
		{client: sleep, port: 80},
		{port: 80},
	} {
		c.ip, c.host = "10.1.1.1", "Shop.Example:80"
		out += map[string]string{"allow": "a", "deny": "d", "ask": "?"}[c.decide(set)]
	}
	return out
}

// TestAuthorization has cases of the reference of AuthorizationPolicy, and of Istio's tasks and
// tests.
func TestAuthorization(t *testing.T) {
	for spec, want := range map[string]string{
		"{}":                           "ddddddd",
		"{rules: [{}]}":                "aaaaaaa",
		"{action: DENY}":               "aaaaaaa",
		"{action: DENY, rules: [{}]}":  "ddddddd",
		"{action: AUDIT, rules: [{}]}": "aaaaaaa",
		"{action: CUSTOM, provider: {name: opa}, rules: [{to: [{operation: {paths: [/admin/*]}}]}]}": "aaaa?dd",
		"{action: CUSTOM, rules: [{to: [{operation: {paths: [/admin/*]}}]}]}":                        "aaaaddd",
		// Sources.
		"{rules: [{from: [{source: {principals: [home/ns/a/sa/sleep]}}]}]}":                  "aaddaad",
		"{rules: [{from: [{source: {principals: [cluster.local/ns/a/sa/sleep]}}]}]}":         "aaddaad",
		"{rules: [{from: [{source: {principals: [away/ns/b/sa/web]}}]}]}":                    "ddadddd",
		"{rules: [{from: [{source: {principals: ['*/ns/a/sa/sleep']}}]}]}":                   "aaddaad",
		"{rules: [{from: [{source: {principals: ['home/ns/a/*']}}]}]}":                       "aaddaad",
		"{rules: [{from: [{source: {principals: ['*']}}]}]}":                                 "aaadaad",
		"{action: DENY, rules: [{from: [{source: {notPrincipals: ['*']}}]}]}":                "aaadaad",
		"{action: DENY, rules: [{from: [{source: {notPrincipals: [home/ns/a/sa/sleep]}}]}]}": "aaddaad",
		"{rules: [{from: [{source: {namespaces: [a]}}]}]}":                                   "aaddaad",
		"{rules: [{from: [{source: {namespaces: ['*']}}]}]}":                                 "aaadaad",
		"{rules: [{from: [{source: {notNamespaces: [a]}}]}]}":                                "ddaadda",
		"{rules: [{from: [{source: {serviceAccounts: [sleep]}}]}]}":                          "aaddaad",
		"{rules: [{from: [{source: {serviceAccounts: [a/sleep, b/web]}}]}]}":                 "aaadaad",
		"{rules: [{from: [{source: {serviceAccounts: [slee]}}]}]}":                           "ddddddd",
		"{rules: [{from: [{source: {trustDomains: [away]}}]}]}":                              "ddadddd",
		"{rules: [{from: [{source: {ipBlocks: [10.1.0.0/16]}}]}]}":                           "aaaaaaa",
		"{rules: [{from: [{source: {ipBlocks: [10.1.0.0/16], notIpBlocks: [10.1.1.1]}}]}]}":  "ddddddd",
		"{rules: [{from: [{source: {requestPrincipals: [iss/sub]}}]}]}":                      "ddddadd",
		"{rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}":                          "ddddadd",
		"{action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['*']}}]}]}":         "ddddadd",
		"{rules: [{from: [{source: {namespaces: [a]}}, {source: {namespaces: [b]}}]}]}":      "aaadaad",
		"{rules: [{from: [{source: {namespaces: [a], principals: [away/ns/b/sa/web]}}]}]}":   "ddddddd",
		// Operations.
		"{rules: [{to: [{operation: {methods: [GET]}}]}]}":                                                 "adaaadd",
		"{rules: [{to: [{operation: {methods: [get]}}]}]}":                                                 "ddddddd",
		"{rules: [{to: [{operation: {methods: [P*]}}]}]}":                                                  "daddddd",
		"{rules: [{to: [{operation: {ports: ['8080']}}]}]}":                                                "daddddd",
		"{rules: [{to: [{operation: {notPorts: ['8080']}}]}]}":                                             "adaaaaa",
		"{rules: [{to: [{operation: {paths: [/info, /data]}}]}]}":                                          "aaaaddd",
		"{rules: [{to: [{operation: {paths: [/inf*]}}]}]}":                                                 "adaaddd",
		"{rules: [{to: [{operation: {paths: ['*.html']}}]}]}":                                              "ddddadd",
		"{rules: [{to: [{operation: {paths: ['/{*}']}}]}]}":                                                "aaaaddd",
		"{rules: [{to: [{operation: {paths: ['/admin/{**}']}}]}]}":                                         "ddddadd",
		"{rules: [{to: [{operation: {notPaths: [/admin/*]}}]}]}":                                           "aaaaddd",
		"{rules: [{to: [{operation: {hosts: [shop.example]}}]}]}":                                          "aaaaadd",
		"{rules: [{to: [{operation: {hosts: ['*.EXAMPLE']}}]}]}":                                           "aaaaadd",
		"{rules: [{to: [{operation: {hosts: ['shop.example:*']}}]}]}":                                      "aaaaadd",
		"{action: DENY, rules: [{to: [{operation: {hosts: ['shop.example:80']}}]}]}":                       "ddddddd",
		"{action: DENY, rules: [{to: [{operation: {methods: [POST], ports: ['8080']}}]}]}":                 "adaaaaa",
		"{action: DENY, rules: [{to: [{operation: {methods: [POST], ports: ['80']}}]}]}":                   "aaaaadd",
		"{rules: [{to: [{operation: {methods: [GET], paths: [/info]}}, {operation: {methods: [POST]}}]}]}": "aaaaddd",
		// Conditions.
		"{rules: [{when: [{key: 'request.headers[X-Role]', values: [admin]}]}]}":                             "ddddadd",
		"{rules: [{when: [{key: 'request.headers[X-Role]', values: ['*']}]}]}":                               "ddddadd",
		"{rules: [{when: [{key: 'request.headers[x-role]', notValues: [admin]}]}]}":                          "aaaaddd",
		"{action: DENY, rules: [{when: [{key: 'request.headers[X-Role]', notValues: ['*']}]}]}":              "ddddadd",
		"{rules: [{when: [{key: 'request.auth.claims[groups]', values: [g0, g1]}]}]}":                        "ddddadd",
		"{rules: [{when: [{key: 'request.auth.claims[realm][roles]', values: [r1]}]}]}":                      "ddddadd",
		"{rules: [{when: [{key: request.auth.audiences, values: [shop]}]}]}":                                 "ddddadd",
		"{rules: [{when: [{key: request.auth.principal, values: [iss/*]}]}]}":                                "ddddadd",
		"{rules: [{when: [{key: source.namespace, values: [b]}]}]}":                                          "ddadddd",
		"{rules: [{when: [{key: source.principal, values: ['*/sa/web']}]}]}":                                 "ddadddd",
		"{rules: [{when: [{key: source.ip, notValues: [10.1.1.0/24]}]}]}":                                    "ddddddd",
		"{rules: [{when: [{key: destination.port, values: ['8080']}]}]}":                                     "daddddd",
		"{rules: [{when: [{key: destination.ip, values: [10.9.0.0/16]}]}]}":                                  "aaaaaaa",
		"{rules: [{when: [{key: destination.ip, values: [10.8.0.0/16]}]}]}":                                  "ddddddd",
		"{action: DENY, rules: [{when: [{key: destination.ip, notValues: [10.9.9.9]}]}]}":                    "aaaaaaa",
		"{rules: [{when: [{key: source.namespace, values: [a]}, {key: destination.port, values: ['80']}]}]}": "adddaad",
	} {
		o := ofMesh()
		added := load(t, o, "AuthorizationPolicy a/p "+spec)
		w := Workload{Namespace: "a", Addresses: []netip.Addr{netip.MustParseAddr("10.9.9.9")}}
		if got := verdicts(o, w); got != want {
			t.Errorf("%s: got %s, want %s", spec, got, want)
		}
		custom := strings.Contains(spec, "CUSTOM") && !strings.Contains(spec, "provider")
		if len(added[0].Problems) > 0 != custom {
			t.Errorf("%s: got the problems %v", spec, added[0].Problems)
		}
	}
}

// TestDoubt: what is not understood is in the condition, allows nothing, and where it denies
// the rest of the rule counts.
func TestDoubt(t *testing.T) {
	to := func(s string) string { return "rules: [{to: [{operation: {ports: ['80'], " + s + "}}]}]" }
	from := func(s string) string { return "rules: [{from: [{source: {" + s + "}}]}]" }
	when := func(s string) string { return "rules: [{when: [{" + s + "}], to: [{operation: {ports: ['80']}}]}]" }
	const port, all = "daddddd", "ddddddd" // decisions, if the action is DENY: of port 80, or all
	for spec, tc := range map[string]struct{ says, deny string }{
		"rules: [{}], rulez: []":           {"spec.rulez", all},
		"rules: [{unless: []}]":            {"spec.rules[0].unless", all},
		"rules: [null]":                    {"spec.rules[0]", all},
		"rules: {}":                        {"spec.rules: cannot be", all},
		"rules: [{}], provider: {name: x}": {"without the action CUSTOM", all},
		"rules: [{from: [{}]}]":            {"from[0] without a source", all},
		"rules: [{to: [{}]}]":              {"to[0] without an operation", all},
		to("paths: ['']"):                  {"an empty value", port},
		to("paths: [info]"):                {"begins with /", port},
		to("paths: ['/{*}.txt']"):          {"whole segment", port},
		to("paths: ['/{**}/a/{*}']"):       {"", port},
		to("paths: ['/*/b/{*}']"):          {"another operator", port},
		to("paths: ['/{name=*}/{*}']"):     {"another operator", port},
		to("sni: [x]"):                     {"operation.sni", port},
		strings.Replace(to("methods: ['*']"), "'80'", "'0'", 1):                 {`"0" is no port`, all},
		strings.Replace(to("methods: ['*']"), "'80'", "'70000'", 1):             {`"70000" is no port`, all},
		strings.Replace(to("methods: ['*']"), "'80'", "80", 1):                  {"cannot be of type number", all},
		from("principals: ['spiffe://home/ns/a/sa/sleep']"):                     {"without spiffe://", all},
		from("serviceAccounts: ['a/*']"):                                        {"without a wildcard", all},
		from("serviceAccounts: [sleep], namespaces: [c]"):                       {"beside principals or namespaces", "aaaaaaa"},
		from("remoteIpBlocks: [10.0.0.0/8]"):                                    {"remoteIpBlocks", all},
		from("ipBlocks: [10.0.0]"):                                              {"want a CIDR", all},
		from("ipBlocks: ['::ffff:10.0.0.0/104']"):                               {"IPv4 in IPv6", all},
		from("namespaces: ['*a*b*c*d*e*f*g*h*i*j*']"):                           {"wildcards", all},
		when("key: connection.sni, values: [x]"):                                {"connection.sni", port},
		when("key: remote.ip, values: [10.0.0.1]"):                              {"remote.ip", port},
		when("key: 'experimental.envoy.filters.a[b]', values: [x]"):             {"experimental", port},
		when("key: source.ip"):                                                  {"without values", port},
		when("key: 'request.headers[]', values: [x]"):                           {"request.headers[]", port},
		when("key: 'request.headers[:method]', values: [GET]"):                  {":method", port},
		when("key: 'request.headers[Host]', values: [x]"):                       {"other than host", port},
		when("key: 'request.auth.claims[a', values: [x]"):                       {"request.auth.claims[a", port},
		"selector: {}, targetRefs: [{kind: Service, name: x}], rules: [{}]":     {"beside spec.selector", all},
		"targetRefs: [{kind: Deployment, group: apps, name: x}], rules: [{}]":   {"the kind Deployment.apps", all},
		"targetRefs: [{kind: Service, name: x, namespace: other}], rules: [{}]": {"in the namespace", all},
	} {
		for action, want := range map[string]string{"ALLOW": all, "DENY": tc.deny, "AUDIT": "aaaaaaa"} {
			o := ofMesh()
			object := load(t, o, "AuthorizationPolicy a/p {action: "+action+", "+spec+"}")[0]
			if got := verdicts(o, Workload{Namespace: "a"}); got != want {
				t.Errorf("%s, %s: got %s, want %s", action, spec, got, want)
			}
			c := object.Condition()
			if c.Status != "False" || !strings.Contains(c.Message, tc.says) || c.ObservedGeneration != 2 {
				t.Errorf("%s, %s: got the condition %+v, want one that says %q", action, spec, c, tc.says)
			}
		}
	}
	for spec, want := range map[string]string{
		"{action: LOG, rules: []}":                                                      "ddddddd",
		"{rules: [{to: [{operation: {hosts: ['shop.example:80']}}]}]}":                  "ddddddd",
		"{rules: [{to: [{operation: {hosts: ['*'], notHosts: ['shop.example:80']}}]}]}": "ddddddd",
		"{rules: [{when: [{key: destination.ip, values: [10.0.0.0/8]}]}]}":              "ddddddd", // the workload's address is not known
	} {
		o := ofMesh()
		load(t, o, "AuthorizationPolicy a/p "+spec)
		if got := verdicts(o, Workload{Namespace: "a"}); got != want {
			t.Errorf("%s: got %s, want %s", spec, got, want)
		}
	}
}

// TestScope: which policies are about a workload.
func TestScope(t *testing.T) {
	web := Workload{Namespace: "a", Labels: map[string]string{"app": "web", "v": "1"}, Services: []string{"web"}}
	for object, want := range map[string]bool{
		"a/p {rules: []}":                                   true,
		"b/p {rules: []}":                                   false,
		"root/p {rules: []}":                                true,
		"a/p {selector: {matchLabels: {app: web}}}":         true,
		"a/p {selector: {matchLabels: {app: web, v: '2'}}}": false,
		"a/p {selector: {}}":                                true,
		"root/p {selector: {matchLabels: {app: web}}}":      true,
		"root/p {selector: {matchLabels: {app: db}}}":       false,
		"a/p {targetRefs: [{kind: Service, name: web}]}":    true,
		"a/p {targetRefs: [{group: core, kind: Service, name: web}, {kind: Service, name: x}]}": true,
		"a/p {targetRef: {kind: Service, name: web}}":                                           true,
		"a/p {targetRefs: [{kind: Service, name: db}]}":                                         false,
		"root/p {targetRefs: [{kind: Service, name: web}]}":                                     false,
		"a/p {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}]}":        false,
	} {
		o := ofMesh()
		load(t, o, "AuthorizationPolicy "+object)
		if got := len(o.For(&web)) == 1; got != want {
			t.Errorf("%s: got %v, want %v", object, got, want)
		}
	}
}

// TestDryRun: a policy with the annotation is rehearsed.
func TestDryRun(t *testing.T) {
	for value, want := range map[string]bool{"true": true, "false": false, "yes": false} {
		o := ofMesh()
		if _, err := o.Add([]byte(`{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"namespace":"a","annotations":{"istio.io/dry-run":"` + value + `"}}}`)); err != nil {
			t.Fatal(err)
		}
		if p := o.For(&Workload{Namespace: "a"}); p[0].Rehearse != want {
			t.Errorf("%s: got %v, want %v", value, p[0].Rehearse, want)
		}
	}
}

// TestPeer has cases of the reference of PeerAuthentication. The last calls of verdicts are
// those without an identity; port tells whether one is let in on 9000.
func TestPeer(t *testing.T) {
	const open, closed = "aaaaaaa", "aaadaad"
	sel := "selector: {matchLabels: {app: web}}, "
	for name, tc := range map[string]struct {
		objects []string
		want    string
		port    bool
		problem string
	}{
		"none":                {nil, open, true, ""},
		"mesh":                {[]string{"root/m {mtls: {mode: STRICT}}"}, closed, false, ""},
		"namespace over mesh": {[]string{"root/m {mtls: {mode: STRICT}}", "a/ns {mtls: {mode: PERMISSIVE}}"}, open, true, ""},
		"workload over both":  {[]string{"root/m {mtls: {mode: STRICT}}", "a/ns {mtls: {mode: STRICT}}", "a/w {" + sel + "mtls: {mode: DISABLE}}"}, open, true, "DISABLE is PERMISSIVE"},
		"unset inherits":      {[]string{"root/m {mtls: {mode: STRICT}}", "a/ns {mtls: {mode: UNSET}}", "a/w {" + sel + "mtls: {}}"}, closed, false, ""},
		"another namespace":   {[]string{"b/ns {mtls: {mode: STRICT}}"}, open, true, ""},
		"another workload":    {[]string{"a/w {selector: {matchLabels: {app: db}}, mtls: {mode: STRICT}}"}, open, true, ""},
		"the oldest holds":    {[]string{"a/ns {mtls: {mode: PERMISSIVE}}", "a/old {mtls: {mode: STRICT}}"}, closed, false, ""},
		"port is open":        {[]string{"a/w {" + sel + "mtls: {mode: STRICT}, portLevelMtls: {9000: {mode: DISABLE}}}"}, closed, true, "DISABLE"},
		"port is strict":      {[]string{"a/w {" + sel + "portLevelMtls: {9000: {mode: STRICT}}}"}, open, false, ""},
		"port is unset":       {[]string{"a/w {" + sel + "mtls: {mode: STRICT}, portLevelMtls: {9000: {mode: UNSET}}}"}, closed, false, ""},
		"port, inherited":     {[]string{"a/ns {mtls: {mode: STRICT}}", "a/w {" + sel + "portLevelMtls: {9000: {mode: PERMISSIVE}}}"}, closed, true, ""},
		"root with selector":  {[]string{"root/w {" + sel + "mtls: {mode: STRICT}}"}, open, true, "not applied in the root"},
		"unknown mode":        {[]string{"a/ns {mtls: {mode: MUTUAL}}"}, closed, false, `"MUTUAL"`},
		"unknown field":       {[]string{"a/ns {mtls: {mode: PERMISSIVE}, tls: {}}"}, closed, false, "spec.tls"},
		"bad port":            {[]string{"a/w {" + sel + "portLevelMtls: {http: {mode: PERMISSIVE}}}"}, closed, false, "no port"},
		"ports, no selector":  {[]string{"a/ns {portLevelMtls: {9000: {mode: PERMISSIVE}}}"}, closed, false, "needs a selector"},
	} {
		o := ofMesh()
		var problems []string
		for _, object := range tc.objects {
			problems = append(problems, load(t, o, "PeerAuthentication "+object)[0].Condition().Message)
		}
		w := Workload{Namespace: "a", Labels: map[string]string{"app": "web"}}
		if got := verdicts(o, w); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got, tc.want)
		}
		set, _ := authz.Compile(o.For(&w), o.Options())
		if got := (&call{ip: "10.1.1.1", port: 9000}).decide(set) == "allow"; got != tc.port {
			t.Errorf("%s: port 9000 without an identity: got %v, want %v", name, got, tc.port)
		}
		if text := strings.Join(problems, ""); (text == "") != (tc.problem == "") || !strings.Contains(text, tc.problem) {
			t.Errorf("%s: got the problems %q, want %q", name, text, tc.problem)
		}
	}
}

// TestRequest: what is not understood of a RequestAuthentication makes no token good, and a
// request without one passes.
func TestRequest(t *testing.T) {
	const keys = `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
	for spec, tc := range map[string]struct {
		want    string // of a request with no token; a bad one in Authorization; Basic; a bad one in X-Jwt, in a parameter, in a cookie
		source  string
		problem string
	}{
		"{}": {"aaaaaa", "", ""},
		"{jwtRules: [{issuer: iss, jwksUri: 'https://x/y', audiences: [a], timeout: 5s, forwardOriginalToken: true, outputClaimToHeaders: [{header: h, claim: c}]}]}": {"adaaaa", "https://x/y", ""},
		"{jwtRules: [{issuer: iss, jwks: '" + keys + "'}]}":                                                      {"adaaaa", "", ""},
		"{jwtRules: [{issuer: 'https://x/'}]}":                                                                   {"adaaaa", "https://x/.well-known/openid-configuration", ""},
		"{jwtRules: [{issuer: iss}]}":                                                                            {"adaaaa", "", "whose issuer is no address"},
		"{jwtRules: [{issuer: iss, jwks: '" + keys + "', fromHeaders: [{name: X-Jwt}]}]}":                        {"aaadaa", "", ""},
		"{jwtRules: [{issuer: iss, jwks: '" + keys + "', fromHeaders: [{name: Authorization, prefix: Basic}]}]}": {"aadaaa", "", ""},
		"{jwtRules: [{issuer: iss, jwks: '" + keys + "', fromParams: [t], fromCookies: [c]}]}":                   {"aaaadd", "", ""},
		"{jwtRules: [{issuer: iss, jwks: '" + keys + "', fromHeaders: [{name: ''}]}]}":                           {"aaaaaa", "", "fromHeaders"},
		"{jwtRules: [{issuer: iss, jwks: '" + keys + "', algorithm: none}]}":                                     {"adaaaa", "", "jwtRules[0].algorithm"},
		"{jwtRules: [{jwks: '" + keys + "'}]}":                                                                   {"adaaaa", "", "issuer"},
		"{jwtRules: [{issuer: i, jwks: '{}'}]}":                                                                  {"adaaaa", "", "no public key"},
		"{jwtRules: [{issuer: i, jwksUri: 'file:///etc/passwd'}]}":                                               {"adaaaa", "", "https"},
		"{jwtRules: [{issuer: i, jwks: '" + keys + "', jwksUri: 'https://x'}]}":                                  {"adaaaa", "", "both jwks and jwksUri"},
		"{jwtRules: [{issuer: i, jwks: '" + keys + "', outputPayloadToHeader: host}]}":                           {"adaaaa", "", "cannot be changed"},
		"{unknown: 1}": {"adaaaa", "", "unknown"},
		"{selector: {matchLabels: {app: db}}, jwtRules: [{issuer: iss, jwks: '" + keys + "'}]}": {"aaaaaa", "", ""},
	} {
		o := ofMesh()
		object := load(t, o, "RequestAuthentication a/r "+spec)[0]
		w := Workload{Namespace: "a", Labels: map[string]string{"app": "web"}}
		rules := o.Tokens(&w)
		v, _ := jwt.Compile(rules)
		got := ""
		for _, c := range []call{
			{},
			{headers: [][2]string{{"authorization", "Bearer x"}}},
			{headers: [][2]string{{"authorization", "Basic x"}}},
			{headers: [][2]string{{"x-jwt", "x"}}},
			{paths: []string{"/?t=x"}},
			{headers: [][2]string{{"cookie", "c=x"}}},
		} {
			path := "/"
			if len(c.paths) > 0 {
				path = c.paths[0]
			}
			if j := jwt.Judge(v, jwt.Head{Path: path, Fields: pairs(c.headers)}, jwt.NewCache[int](1, 1), 0, time.Now(), false); j.Failure == jwt.Good {
				got += "a"
			} else {
				got += "d"
			}
		}
		if got != tc.want {
			t.Errorf("%s: got %s, want %s", spec, got, tc.want)
		}
		source := ""
		if len(rules) > 0 {
			source = rules[0].Source
		}
		if source != tc.source {
			t.Errorf("%s: keys are from %q, want %q", spec, source, tc.source)
		}
		if text := object.Condition().Message; (text == "") != (tc.problem == "") || !strings.Contains(text, tc.problem) {
			t.Errorf("%s: got the problems %q, want %q", spec, text, tc.problem)
		}
		if len(o.For(&w)) > 0 {
			t.Errorf("%s: it is a policy, too", spec)
		}
	}
}

// TestHostile: objects of any size fail closed with a short message.
func TestHostile(t *testing.T) {
	mega := strings.Repeat("x", 1<<20)
	list := func(n int, element string) string { return "[" + strings.Repeat(element+",", n-1) + element + "]" }
	for name, rules := range map[string]string{
		"rules":            list(100_000, `{}`),
		"pairs":            list(3, `{"from":`+list(500, `{"source":{"namespaces":["x"]}}`)+`,"to":`+list(500, `{"operation":{"ports":["80"]}}`)+`}`),
		"sources":          `[{"from":` + list(50_000, `{"source":{}}`) + `}]`,
		"bad values":       list(500, `{"to":[{"operation":{"ports":`+list(500, `"x"`)+`}}]}`),
		"long path":        `[{"to":[{"operation":{"paths":["` + mega + `"]}}]}]`,
		"long account":     `[{"from":[{"source":{"serviceAccounts":["` + mega + `"]}}]}]`,
		"long namespace":   `[{"from":[{"source":{"namespaces":["*` + mega + `*"]}}]}]`,
		"long key":         `[{"when":[{"key":"` + mega + `","values":["x"]}]}]`,
		"long claim":       `[{"when":[{"key":"request.auth.claims` + strings.Repeat("[a]", 100_000) + `x","values":["x"]}]}]`,
		"stars":            `[{"from":[{"source":{"namespaces":["` + strings.Repeat("*a", 100_000) + `"]}}]}]`,
		"templates":        `[{"to":[{"operation":{"paths":["` + strings.Repeat("/{*}", 10_000) + `/{**}/{*}"]}}]}]`,
		"unknown fields":   list(100_000, `{"x":1}`),
		"unknown, then {}": `[` + strings.Repeat(`{"x":1},`, 200) + `{}]`,
		"deep":             `[{"x":` + strings.Repeat(`[`, 5000) + strings.Repeat("]", 5000) + `}]`,
		"odd text":         `[{"from":[{"source":{"namespaces":["\u202e\u0000"]}}],"to":[{"operation":{"hosts":["\ud800"],"paths":["/\u2028"]}}]}]`,
	} {
		o := ofMesh()
		object, err := o.Add([]byte(`{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"namespace":"a","name":"p"},"spec":{"rules":` + rules + `}}`))
		if err != nil || object == nil {
			t.Errorf("%s: got %v, %v", name, object, err)
			continue
		}
		if got := verdicts(o, Workload{Namespace: "a"}); got != "ddddddd" {
			t.Errorf("%s: got %s, want nothing allowed", name, got)
		}
		c := object.Condition()
		if c.Status != "False" || len(c.Message) > 8<<10 {
			t.Errorf("%s: got the condition %s with %d bytes, want False with 8 KiB at most", name, c.Status, len(c.Message))
		}
		size := 0
		for _, p := range object.Problems {
			size += len(p.Text) + len(p.Field)
		}
		if size > 1<<20 {
			t.Errorf("%s: the problems have %d bytes, want less than 1 MiB", name, size)
		}
	}
	for _, other := range []string{`{"apiVersion":"security.istio.io/v1","kind":"Other"}`, `{"apiVersion":"policy.linkerd.io/v1","kind":"AuthorizationPolicy"}`} {
		if object, err := ofMesh().Add([]byte(other)); object != nil || err != nil {
			t.Errorf("%s: got %v, %v, want another kind", other, object, err)
		}
	}
	if _, err := ofMesh().Add([]byte(strings.Repeat("[", 1<<20))); err == nil {
		t.Error("a deep object is read")
	}
}

func TestAliases(t *testing.T) {
	o := ofMesh()
	load(t, o, "AuthorizationPolicy a/p {rules: [{from: [{source: {principals: [cluster.local/ns/a/sa/sleep]}}]}]}")
	set, _ := authz.Compile(o.For(&Workload{Namespace: "a"}), o.Options())
	for client, want := range map[[3]string]string{sleep: "allow", legacy: "allow", {"cluster.local", "a", "sleep"}: "deny", {"away", "a", "sleep"}: "deny"} {
		if got := (&call{client: client, ip: "10.1.1.1", port: 80}).decide(set); got != want {
			t.Errorf("%v: got %s, want %s", client, got, want)
		}
	}
}
