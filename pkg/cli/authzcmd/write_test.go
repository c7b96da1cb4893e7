package authzcmd

import (
	"strings"
	"testing"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// TestNamesAreTold: rows of different objects, servers and clients differ in what is written.
func TestNamesAreTold(t *testing.T) {
	web := tapv1alpha1.AuthzRow{Namespace: "shop", Kind: "deployment", Name: "web", Object: "AuthorizationPolicy.policy.underlane.io shop/a", Rule: "1", Verdict: "allowed", Client: "spiffe://td/ns/shop/sa/job", Port: 80, Method: "GET", Path: "/", Calls: 1}
	for what, change := range map[string]func(r *tapv1alpha1.AuthzRow){
		"another language":        func(r *tapv1alpha1.AuthzRow) { r.Object = "AuthorizationPolicy.security.istio.io shop/a" },
		"a third one":             func(r *tapv1alpha1.AuthzRow) { r.Object = "AuthorizationPolicy.policy.linkerd.io shop/a" },
		"another kind":            func(r *tapv1alpha1.AuthzRow) { r.Object = "Server.policy.linkerd.io shop/a" },
		"another namespace":       func(r *tapv1alpha1.AuthzRow) { r.Object = "AuthorizationPolicy.policy.underlane.io istio-system/a" },
		"a server elsewhere":      func(r *tapv1alpha1.AuthzRow) { r.Namespace = "data" },
		"a server of a kind":      func(r *tapv1alpha1.AuthzRow) { r.Kind = "statefulset" },
		"a client of a namespace": func(r *tapv1alpha1.AuthzRow) { r.Client = "spiffe://td/ns/data/sa/job" },
		"a client of a domain":    func(r *tapv1alpha1.AuthzRow) { r.Client = "spiffe://other/ns/shop/sa/job" },
	} {
		other := web
		change(&other)
		var b strings.Builder
		if err := Write(&b, &tapv1alpha1.AuthzList{Items: []tapv1alpha1.AuthzRow{web, other}}, true, true); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		if len(lines) != 3 || lines[1] == lines[2] {
			t.Errorf("%s: got\n%swant two rows that differ", what, b.String())
		}
	}
}
