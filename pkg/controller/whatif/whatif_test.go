package whatif

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/rehearse"
)

const shop = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {underlane.io/mesh: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop, labels: {app: api, pod-template-hash: x}, annotations: {underlane.io/policy: %s}}
spec: {nodeName: n1, containers: [{name: main}]}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: n1, serviceAccountName: web}
status: {podIP: 10.0.0.2}
`

func state(t *testing.T, mode string) *State {
	t.Helper()
	o, err := watch.Decode(fmt.Appendf(nil, shop, mode))
	if err != nil {
		t.Fatal(err)
	}
	return &State{Objects: o, Config: translate.Config{TrustDomain: "td"}}
}

func call(account, method, path string, port uint16) rehearse.Call {
	c := rehearse.Call{
		Target: rehearse.Target{Namespace: "shop", Kind: "pod", Name: "api"}, Address: netip.MustParseAddr("10.0.0.9"), Port: port, Method: method, Path: path,
	}
	if method != "" {
		c.Host = "api"
	}
	if account != "" {
		c.Client = mesh.Identity{TrustDomain: "td", Namespace: "shop", ServiceAccount: account}
	}
	return c
}

func recorded() *rehearse.Calls {
	calls := rehearse.NewCalls(100)
	calls.Add(call("web", "GET", "/users/{*}", 8080), 5)
	calls.Add(call("web", "POST", "/{**}", 8080), 1)
	calls.Add(call("job", "", "", 7000), 2)
	calls.Add(call("", "GET", "/metrics", 9090), 3)
	return calls
}

// TestSuggestThenTry: what is suggested changes nothing for the calls that it is made of, and
// others would be denied.
func TestSuggestThenTry(t *testing.T) {
	for lang, want := range map[string]struct {
		by     string
		unsure uint64 // of a rule about paths it is not known whether it is about the path /{**}
	}{
		tapv1alpha1.LangLinkerd: {"Server shop/api-", 0},
		tapv1alpha1.LangOwn:     {"policy.underlane.io: none of its policies allows it", 1},
		tapv1alpha1.LangIstio:   {"security.istio.io: none of its policies allows it", 1},
	} {
		s := state(t, "audit")
		suggestion, err := s.Suggest(lang, recorded())
		if err != nil || suggestion.Calls != 11 || suggestion.Manifest == "" {
			t.Fatalf("%s: got %+v, %v", lang, suggestion, err)
		}
		report, err := s.Try([]byte(suggestion.Manifest), "shop", recorded())
		if err != nil {
			t.Fatalf("%s: %v in\n%s", lang, err, suggestion.Manifest)
		}
		if report.Allowed != 11 || report.Lost+report.Won+report.Denied != 0 || report.Unsure != want.unsure || len(report.Problems) > 0 {
			t.Errorf("%s: got %+v for\n%s", lang, report, suggestion.Manifest)
		}
		others := rehearse.NewCalls(10)
		others.Add(call("evil", "GET", "/users/{*}", 8080), 1)
		others.Add(call("web", "", "", 7000), 1)
		report, err = s.Try([]byte(suggestion.Manifest), "shop", others)
		if err != nil || report.Lost != 2 || len(report.Changes) != 2 {
			t.Fatalf("%s: others: got %+v, %v", lang, report, err)
		}
		for _, c := range report.Changes {
			if !c.NowAllowed || c.NowBy != "default audit: no policy allows it, and its mode is audit" || !strings.HasPrefix(c.ThenBy, want.by) {
				t.Errorf("%s: got %+v", lang, c)
			}
		}
	}
}

// TestSuggestLanguages: each language names the clients and the ports.
func TestSuggestLanguages(t *testing.T) {
	for lang, want := range map[string][]string{
		tapv1alpha1.LangOwn:     {"kind: AuthorizationPolicy", "apiVersion: policy.underlane.io/", "app: api", "name: web", "8080", "value: /users"},
		tapv1alpha1.LangIstio:   {"apiVersion: security.istio.io/v1", "td/ns/shop/sa/web", "- /users/*", "\"7000\"", "app: api"},
		tapv1alpha1.LangLinkerd: {"kind: Server", "port: 9090", "cidr: 10.0.0.9/32", "name: job"},
	} {
		got, err := state(t, "audit").Suggest(lang, recorded())
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range want {
			if !strings.Contains(got.Manifest, text) {
				t.Errorf("%s: %q is not in\n%s", lang, text, got.Manifest)
			}
		}
		if strings.Contains(got.Manifest, "pod-template-hash") {
			t.Errorf("%s: a label of one template selects:\n%s", lang, got.Manifest)
		}
	}
}

func TestTryRefuses(t *testing.T) {
	const server = "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {name: x, namespace: %s}\nspec: {podSelector: {}, port: 8080%s}\n"
	s := state(t, "allow")
	for name, tc := range map[string]struct{ manifest, want string }{
		"nothing":           {"", "no authorization policy"},
		"another kind":      {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", "no authorization policy"},
		"one of them":       {fmt.Sprintf(server, "shop", "") + "---\napiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: x, namespace: shop}\n", "cilium.io/v2 CiliumNetworkPolicy"},
		"another namespace": {fmt.Sprintf(server, "bank", ""), "must be of namespace shop"},
		"no YAML":           {"{", ""},
	} {
		if _, err := s.Try([]byte(tc.manifest), "shop", recorded()); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
	// What is not understood fails closed, and is reported.
	report, err := s.Try(fmt.Appendf(nil, server, "shop", ", tomorrow: true"), "shop", recorded())
	if err != nil || report.Lost != 6 || len(report.Problems) != 1 || !strings.Contains(report.Problems[0], "tomorrow") {
		t.Errorf("an unknown field: got %+v, %v", report, err)
	}
}
