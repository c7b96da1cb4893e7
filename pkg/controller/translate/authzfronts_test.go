package translate_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// own is a policy of policy.underlane.io about the pod api, or with the selector given.
func own(name, action, rules string) string {
	return fmt.Sprintf(`---
apiVersion: policy.underlane.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: %s, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: api}}}]
  action: %s
  enforcementLevel: Application
  rules: [%s]
`, name, action, rules)
}

func istio(kind, name, spec string) string {
	namespace := "shop"
	if strings.HasPrefix(name, "root") {
		namespace = "istio-system"
	}
	return fmt.Sprintf("---\napiVersion: security.istio.io/v1\nkind: %s\nmetadata: {name: %s, namespace: %s}\nspec: %s\n", kind, name, namespace, spec)
}

const (
	ownWeb     = "{name: web, sources: [{type: ServiceAccount, serviceAccount: {name: web}}]}"
	istioAPI   = "selector: {matchLabels: {app: api}}"
	istioWeb   = "{rules: [{from: [{source: {serviceAccounts: [web]}}]}], " + istioAPI + "}"
	apiService = "---\napiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: shop}\nspec: {selector: {app: api}, ports: [{port: 80}]}\n"
)

// TestFronts: which pods the policies of each language are about, and how those of several
// languages and the default mode are joined.
func TestFronts(t *testing.T) {
	deny := []string{"name: shop, labels:", "name: shop, annotations: {underlane.io/policy: deny}, labels:"}
	for name, tc := range map[string]struct {
		add      string
		change   []string
		config   string // the default policy of the installation
		problem  string
		want     string // account:port and + or -
		requests bool
		another  bool // the other pod has policies
	}{
		"ours: allow":                      {add: own("p", "ALLOW", ownWeb), want: "web:80+ job:80- :80-"},
		"ours: without rules":              {add: own("p", "ALLOW", ""), want: "web:80- :80-"},
		"ours: deny":                       {add: own("p", "DENY", ownWeb), want: "web:80- job:80+ :80+"},
		"ours: audit":                      {add: own("p", "AUDIT", ownWeb), want: "web:80+ job:80+ :80+"},
		"ours: two policies":               {add: own("p", "ALLOW", ownWeb) + own("q", "ALLOW", strings.ReplaceAll(ownWeb, "web", "job")), want: "web:80+ job:80+ :80-"},
		"ours: deny comes first":           {add: own("p", "ALLOW", "{}") + own("q", "DENY", ownWeb), want: "web:80- job:80+ :80+"},
		"ours: a port":                     {add: own("p", "ALLOW", "{networkAttributes: {ports: [80]}}"), want: "web:80+ :80+ web:81-"},
		"ours: requests":                   {add: own("p", "ALLOW", "{authorization: {type: Inline, paths: [{value: /a}]}}"), want: "web:80?", requests: true},
		"ours: an unknown action":          {add: own("p", "LOG", ownWeb), want: "web:80- :80-", problem: "action: is not known"},
		"ours: an unknown field":           {add: own("p", "ALLOW", "{sauces: []}"), want: "web:80-", problem: "spec.rules[0].sauces: is not known"},
		"ours: an unknown field of a deny": {add: own("p", "DENY", "{sauces: []}"), want: "web:80-", problem: "sauces"},
		"ours: an unknown target": {
			add:     strings.Replace(own("p", "ALLOW", "{}"), "kind: Pod", "kind: Service", 1),
			problem: "targetRefs", want: "web:80-", another: true,
		},
		"ours: another namespace": {add: strings.Replace(own("p", "ALLOW", ""), "namespace: shop", "namespace: other", 1), want: "web:80+"},

		"istio: allow":           {add: istio("AuthorizationPolicy", "p", istioWeb), want: "web:80+ job:80- :80-"},
		"istio: nothing":         {add: istio("AuthorizationPolicy", "p", "{}"), want: "web:80-", another: true},
		"istio: deny":            {add: istio("AuthorizationPolicy", "p", "{action: DENY, "+istioWeb[1:]), want: "web:80- job:80+"},
		"istio: of the root":     {add: istio("AuthorizationPolicy", "root", istioWeb), want: "web:80-"}, // the account is of its own namespace
		"istio: a Service":       {add: apiService + istio("AuthorizationPolicy", "p", "{targetRefs: [{kind: Service, name: api}]}"), want: "web:80-"},
		"istio: no such Service": {add: apiService + istio("AuthorizationPolicy", "p", "{targetRefs: [{kind: Service, name: web}]}"), want: "web:80+"},
		"istio: strict":          {add: istio("PeerAuthentication", "p", "{mtls: {mode: STRICT}}"), want: "web:80+ job:80+ :80-", another: true},
		"istio: a mode that is not known": {
			add: istio("PeerAuthentication", "p", "{mtls: {mode: SOMETIMES}}"), want: "web:80+ :80-", problem: "SOMETIMES", another: true,
		},
		"istio: tokens": {
			add:  istio("RequestAuthentication", "p", "{jwtRules: [{issuer: i, jwksUri: 'https://i'}]}") + istio("AuthorizationPolicy", "p", "{rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}"),
			want: "web:80?", requests: true, another: true,
		},
		"istio: an unknown field": {add: istio("AuthorizationPolicy", "p", "{rules: [{}], ruels: []}"), want: "web:80-", problem: "spec.ruels", another: true},
		"istio: rehearsed": {
			add:  strings.Replace(istio("AuthorizationPolicy", "p", istioWeb), "name: p,", "name: p, annotations: {istio.io/dry-run: 'true'},", 1),
			want: "web:80+ job:80+",
		},

		"both have to allow":             {add: own("p", "ALLOW", ownWeb) + istio("AuthorizationPolicy", "p", istioWeb), want: "web:80+ job:80-"},
		"each of them refuses":           {add: own("p", "ALLOW", ownWeb) + istio("AuthorizationPolicy", "p", "{"+istioAPI+"}"), want: "web:80- job:80-"},
		"a Server beside ours":           {add: own("p", "ALLOW", "{}") + authzServer + "spec: {podSelector: {matchLabels: {app: api}}, port: 8080}\n", want: "web:8080+ job:8080- job:80+"},
		"the default, and allow":         {change: deny, add: own("p", "ALLOW", ownWeb), want: "web:80+ job:80-", another: true},
		"the default, and Istio's allow": {change: deny, add: istio("AuthorizationPolicy", "p", istioWeb), want: "web:80+ job:80-", another: true},
		"the default, and deny":          {change: deny, add: own("p", "DENY", ownWeb), want: "web:80- job:80-", another: true},
		"the default, and audit":         {change: deny, add: own("p", "AUDIT", ownWeb), want: "web:80- job:80-", another: true},
		"the default, and Istio's peers": {change: deny, add: istio("PeerAuthentication", "p", "{mtls: {mode: PERMISSIVE}}"), want: "web:80-", another: true},
		"a default that is not known": {
			change: []string{deny[0], strings.Replace(deny[1], "deny", "strikt", 1)}, problem: "taken for deny", want: "web:80- :80-", another: true,
		},
		"the installation's default":       {config: "all-authenticated", want: "web:80+ :80-", another: true},
		"the namespace before the default": {config: "deny", change: []string{deny[0], strings.Replace(deny[1], "deny", "allow", 1)}, want: "web:80+ :80+"},
		"allow, and the default":           {config: "deny", add: own("p", "ALLOW", "{}"), want: "web:80+ :80+", another: true},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := watch.Decode([]byte(strings.NewReplacer(tc.change...).Replace(authzPods) + tc.add))
			if err != nil {
				t.Fatal(err)
			}
			config := translate.Config{TrustDomain: "cluster.local"}
			if tc.config != "" {
				if config.Policy, err = translate.ParseDefaultPolicy(tc.config); err != nil {
					t.Fatal(err)
				}
			}
			got := config.Translate(o)
			if diff := cmp.Diff(got, config.Translate(o), cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
				t.Error("the second translation:", diff)
			}
			if said := fmt.Sprint(got.Problems); tc.problem == "" && len(got.Problems) > 0 || !strings.Contains(said, tc.problem) {
				t.Errorf("problems: got %s, want %q", said, tc.problem)
			}
			letters := map[authz.Verdict]string{authz.Allow: "+", authz.Deny: "-", authz.NeedsRequest: "?"}
			var verdicts []string
			for _, w := range strings.Fields(tc.want) {
				account, rest, _ := strings.Cut(w[:len(w)-1], ":")
				var port uint16
				fmt.Sscan(rest, &port)
				verdicts = append(verdicts, w[:len(w)-1]+letters[decide(got.Authz["shop/api"], account, port)])
			}
			if diff := cmp.Diff(tc.want, strings.Join(verdicts, " ")); diff != "" {
				t.Error("-want +got", diff)
			}
			for _, w := range got.Workloads {
				if w.RequestRules != (tc.requests && (w.Name == "api" || tc.another)) || w.Name == "other" && w.Authorized != tc.another {
					t.Errorf("%s: looks at requests %v, has policies %v", w.Name, w.RequestRules, w.Authorized)
				}
			}
		})
	}
}

// TestDefaultPolicy: what the installation's default can be.
func TestDefaultPolicy(t *testing.T) {
	o, err := watch.Decode([]byte(authzPods))
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{"allow": "false false", "strict": "true false", "deny": "false true", "all-unauthenticated": "false false"} {
		p, err := translate.ParseDefaultPolicy(value)
		if err != nil {
			t.Fatal(err)
		}
		w := translate.Config{TrustDomain: "cluster.local", Policy: p}.Translate(o).Workloads[0]
		if got := fmt.Sprint(w.Settings.Policy == mesh.PolicyStrict, w.Authorized); got != want {
			t.Errorf("%s: strict and authorized: got %s, want %s", value, got, want)
		}
	}
	for _, bad := range []string{"", "Deny", "some"} {
		if p, err := translate.ParseDefaultPolicy(bad); err == nil {
			t.Errorf("%q: got %+v, want an error", bad, p)
		}
	}
}

// manyPolicies adds n policies to a cluster of bigCluster, each of them about the pods of one
// app: a half of ours, a half of Istio's.
func manyPolicies(o *translate.Objects, n, apps int) {
	for i := range n {
		app := i % apps
		p := &custom.PolicyObject{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p-", i), Namespace: fmt.Sprintf("ns-%d", app%50)}}
		if p.Kind = "AuthorizationPolicy"; i/apps%2 == 0 {
			p.APIVersion = "policy.underlane.io/v1alpha1"
			p.Spec = fmt.Appendf(nil, `{"targetRefs":[{"group":"","kind":"Pod","selector":{"matchLabels":{"app":"app-%d"}}}],"action":"ALLOW","enforcementLevel":"Application",
				"rules":[{"name":"r","sources":[{"type":"ServiceAccount","serviceAccount":{"name":"web"}}],"authorization":{"type":"Inline","methods":["GET"],"paths":[{"type":"PathPrefix","value":"/v1"}]}}]}`, app)
		} else {
			p.APIVersion = "security.istio.io/v1"
			p.Spec = fmt.Appendf(nil, `{"selector":{"matchLabels":{"app":"app-%d"}},"rules":[{"from":[{"source":{"principals":["cluster.local/ns/a/sa/web"]}}],"to":[{"operation":{"methods":["GET"],"paths":["/v1/*"]}}]}]}`, app)
		}
		o.PolicyObjects = append(o.PolicyObjects, p)
	}
}

// manyLinkerdPolicies adds n policies of Linkerd: Servers of an app's ports, with an
// AuthorizationPolicy and a MeshTLSAuthentication each.
func manyLinkerdPolicies(o *translate.Objects, n, apps int) {
	for i := range n / 3 {
		app, port := i%apps, 8080+i/apps
		for kind, spec := range map[string]string{
			"Server":                fmt.Sprintf(`{"podSelector":{"matchLabels":{"app":"app-%d"}},"port":%d,"proxyProtocol":"HTTP/1"}`, app, port),
			"AuthorizationPolicy":   fmt.Sprintf(`{"targetRef":{"group":"policy.linkerd.io","kind":"Server","name":"p-%d"},"requiredAuthenticationRefs":[{"group":"policy.linkerd.io","kind":"MeshTLSAuthentication","name":"p-%d"}]}`, i, i),
			"MeshTLSAuthentication": fmt.Sprintf(`{"identityRefs":[{"kind":"ServiceAccount","name":"web-%d"}]}`, i),
		} {
			p := &custom.PolicyObject{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("p-", i), Namespace: fmt.Sprintf("ns-%d", app%50)}, Spec: []byte(spec)}
			p.Kind, p.APIVersion = kind, "policy.linkerd.io/v1"
			o.PolicyObjects = append(o.PolicyObjects, p)
		}
	}
}

// BenchmarkPolicies: what a change costs in a cluster of 5,000 pods with 10,000 policies, ten
// for each app: first is the first translation, next one that has the same policies.
func BenchmarkPolicies(b *testing.B) {
	for language, add := range map[string]func(*translate.Objects, int, int){"own and Istio's": manyPolicies, "Linkerd's": manyLinkerdPolicies} {
		o := bigCluster(5000)
		add(o, 10_000, 1000)
		for name, config := range map[string]translate.Config{
			"first": {TrustDomain: "cluster.local"},
			"next":  {TrustDomain: "cluster.local"},
		} {
			b.Run(language+"/"+name, func(b *testing.B) {
				if r := config.Translate(o); len(r.Authz) != 5000 || len(r.Authz[r.Workloads[0].UID].Groups) < 2 {
					b.Fatal(len(r.Authz), r.Problems)
				}
				b.ReportAllocs()
				for b.Loop() {
					config.Translate(o)
				}
			})
		}
	}
}
