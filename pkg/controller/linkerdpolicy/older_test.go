package linkerdpolicy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/policy/authz"
)

// TestServerAuthorizations: the examples of Linkerd's reference of ServerAuthorization, and
// what is not understood, which lets in nobody.
func TestServerAuthorizations(t *testing.T) {
	const objects = `apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {namespace: emojivoto, name: emoji-grpc, labels: {emojivoto/api: internal-grpc}}
spec: {podSelector: {matchLabels: {app: emoji-svc}}, port: grpc, proxyProtocol: gRPC}
---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {namespace: emojivoto, name: a}
spec: %s`
	const byLabel = "server: {selector: {matchLabels: {emojivoto/api: internal-grpc}}}"
	const web, other, prom, none = "emojivoto/web", "emojivoto/voting", "linkerd-viz/prometheus", ""
	for spec, tc := range map[string]struct {
		allowed map[string]bool // by client
		problem string
	}{
		// All meshed clients with certain service accounts.
		byLabel + ", client: {meshTLS: {serviceAccounts: [{name: web}]}}":                                                {map[string]bool{web: true, other: false, none: false}, ""},
		"server: {name: emoji-grpc}, client: {meshTLS: {serviceAccounts: [{namespace: linkerd-viz, name: prometheus}]}}": {map[string]bool{prom: true, web: false}, ""},
		"server: {name: voting-grpc}, client: {meshTLS: {serviceAccounts: [{name: web}]}}":                               {map[string]bool{web: false}, ""},
		// All clients that are authenticated, and all there are, of some networks.
		byLabel + ", client: {meshTLS: {identities: ['*']}}":                                                                                        {map[string]bool{web: true, none: false}, ""},
		byLabel + ", client: {meshTLS: {identities: ['*.emojivoto.serviceaccount.identity.linkerd.td']}}":                                           {map[string]bool{web: true, prom: false}, ""},
		byLabel + ", client: {meshTLS: {unauthenticatedTLS: true}}":                                                                                 {map[string]bool{web: true, none: false}, ""},
		byLabel + ", client: {unauthenticated: true}":                                                                                               {map[string]bool{none: true}, ""},
		byLabel + ", client: {unauthenticated: true, networks: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}]}":                                        {map[string]bool{none: false, web: false}, ""},
		byLabel + ", client: {unauthenticated: true, networks: [{cidr: 10.1.2.3}]}":                                                                 {map[string]bool{none: true}, ""},
		"server: {selector: {matchExpressions: [{key: emojivoto/api, operator: In, values: [internal-grpc, x]}]}}, client: {unauthenticated: true}": {map[string]bool{none: true}, ""},
		"server: {selector: {}}, client: {unauthenticated: true}":                                                                                   {map[string]bool{none: true}, ""},
		// In doubt nobody.
		"client: {unauthenticated: true}":                                           {map[string]bool{none: false}, "neither a name nor a selector"},
		"server: {name: emoji-grpc, selector: {}}, client: {unauthenticated: true}": {map[string]bool{none: false}, "both a name and a selector"},
		"server: {selector: {matchNames: [x]}}, client: {unauthenticated: true}":    {map[string]bool{none: false}, "matchNames"},
		byLabel:                             {map[string]bool{web: false, none: false}, "nothing of the authentication"},
		byLabel + ", client: {meshTLS: {}}": {map[string]bool{web: false}, "no clients"},
		byLabel + ", client: {meshTLS: {serviceAccounts: [{name: '*'}]}}":              {map[string]bool{web: false}, "without a name"},
		byLabel + ", client: {meshTLS: {identities: [web]}}":                           {map[string]bool{web: false}, `identity "web"`},
		byLabel + ", client: {unauthenticated: true, networks: [{cidr: 10.0.0.0/99}]}": {map[string]bool{none: false}, `network "10.0.0.0/99"`},
		byLabel + ", client: {unauthenticated: true, groups: [x]}":                     {map[string]bool{none: false}, "groups: is not known"},
	} {
		o := load(t, fmt.Sprintf(objects, "{"+spec+"}"))
		o.Cluster = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		group, _, problems := o.Group(&o.Servers[0], "td")
		rules, more := authz.CompileWorkload(&authz.Spec{TrustDomain: "td", Groups: []authz.Group{group}})
		if text := fmt.Sprint(append(problems, more...)); (tc.problem == "") != (len(problems)+len(more) == 0) || !strings.Contains(text, tc.problem) {
			t.Errorf("%s: got the problems %s, want %q", spec, text, tc.problem)
		}
		for client, want := range tc.allowed {
			c := &authz.Connection{Client: netip.MustParseAddr("10.1.2.3"), Port: 80}
			if ns, sa, ok := strings.Cut(client, "/"); ok {
				c.Peer = authz.ParsePeer("spiffe://td/ns/" + ns + "/sa/" + sa)
			}
			if d := rules.DecideConnection(c); (d.Verdict == authz.Allow) != want {
				t.Errorf("%s: %q: got %+v, want it let in: %v", spec, client, d.Outcome, want)
			}
			c.Client = netip.MustParseAddr("192.0.2.1")
			if d := rules.DecideConnection(c); d.Verdict == authz.Allow {
				t.Errorf("%s: %q from outside the networks: got %+v", spec, client, d.Outcome)
			}
		}
	}
}
