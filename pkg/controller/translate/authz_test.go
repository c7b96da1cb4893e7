package translate_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

const authzPods = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {underlane.io/mesh: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop, labels: {app: api}}
spec:
  nodeName: n1
  containers: [{name: main, ports: [{name: http, containerPort: 8080}, {name: admin, containerPort: 9090}]}]
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: other, namespace: shop, labels: {app: other}}
spec: {nodeName: n1}
status: {podIP: 10.0.0.2}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: AuthorizationPolicy
metadata: {name: web, namespace: shop}
spec:
  targetRef: {group: policy.linkerd.io, kind: Server, name: api}
  requiredAuthenticationRefs: [{kind: ServiceAccount, name: web}]
`

const authzServer = `---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: api, namespace: shop}
`

// decide returns the verdict for a client with the service account of the namespace shop,
// "" for one without an identity.
func decide(spec *authz.Spec, account string, port uint16) authz.Verdict {
	if spec == nil {
		return authz.Allow
	}
	rules, _ := authz.CompileWorkload(spec)
	c := &authz.Connection{Port: port}
	if account != "" {
		c.Peer = authz.PeerOf(mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: account})
	}
	return rules.DecideConnection(c).Verdict
}

func TestLinkerdPolicies(t *testing.T) {
	type want struct {
		account string
		port    uint16
		verdict authz.Verdict
	}
	for name, tc := range map[string]struct {
		add      string // to authzPods
		change   []string
		problem  string
		want     []want
		another  bool // the other pod has policies, too
		openPort bool // no policies at all
	}{
		"no Server": {want: []want{{"", 8080, authz.Allow}, {"job", 8080, authz.Allow}}, openPort: true},
		"a port by name": {
			add:  authzServer + "spec: {podSelector: {matchLabels: {app: api}}, port: http}\n",
			want: []want{{"web", 8080, authz.Allow}, {"job", 8080, authz.Deny}, {"", 8080, authz.Deny}, {"", 9090, authz.Allow}},
		},
		"a port by number": {
			add:  authzServer + "spec: {podSelector: {matchLabels: {app: api}}, port: 9090}\n",
			want: []want{{"web", 9090, authz.Allow}, {"job", 9090, authz.Deny}, {"", 8080, authz.Allow}},
		},
		"a port that the pod does not have": {
			add:      authzServer + "spec: {podSelector: {matchLabels: {app: api}}, port: metrics}\n",
			want:     []want{{"job", 8080, authz.Allow}},
			openPort: true,
		},
		"a selector that is not understood selects all": {
			add:     authzServer + "spec: {podSelector: {matchNames: [x]}, port: 8080}\n",
			problem: "podSelector", another: true,
			want: []want{{"web", 8080, authz.Allow}, {"job", 8080, authz.Deny}},
		},
		"a port that is not understood is every port": {
			add:     authzServer + "spec: {podSelector: {matchLabels: {app: api}}, port: {from: 1}}\n",
			problem: "spec.port", want: []want{{"web", 1, authz.Allow}, {"job", 9090, authz.Deny}},
		},
		"a field that is not known": {
			add:     authzServer + "spec: {podSelector: {matchLabels: {app: api}}, port: 8080, accessPolicy: all-unauthenticated, tomorrow: true}\n",
			problem: "tomorrow", want: []want{{"job", 8080, authz.Deny}, {"web", 8080, authz.Allow}},
		},
		"an access policy": {
			add:  authzServer + "spec: {podSelector: {matchLabels: {app: api}}, port: 8080, accessPolicy: all-authenticated}\n",
			want: []want{{"job", 8080, authz.Allow}, {"", 8080, authz.Deny}},
		},
		"two Servers of one port": {
			add: authzServer + "spec: {podSelector: {matchLabels: {app: api}}, port: 8080}\n" +
				strings.Replace(authzServer, "name: api", "name: again", 1) + "spec: {podSelector: {}, port: http}\n",
			problem: "both have to allow", want: []want{{"web", 8080, authz.Deny}},
		},
		"the namespace's default": {
			change: []string{"name: shop, labels:", "name: shop, annotations: {config.linkerd.io/default-inbound-policy: all-authenticated}, labels:"},
			add:    authzServer + "spec: {podSelector: {matchLabels: {app: api}}, port: 8080}\n", another: true,
			want: []want{{"", 9090, authz.Deny}, {"job", 9090, authz.Allow}, {"job", 8080, authz.Deny}, {"web", 8080, authz.Allow}},
		},
		"the pod's default comes first": {
			change: []string{
				"name: shop, labels:", "name: shop, annotations: {config.linkerd.io/default-inbound-policy: deny}, labels:",
				"name: api, namespace: shop, labels: {app: api}}\nspec:\n", "name: api, namespace: shop, annotations: {underlane.io/policy: all-unauthenticated}, labels: {app: api}}\nspec:\n",
			},
			want: []want{{"", 9090, authz.Allow}}, another: true, openPort: true,
		},
		"a default that is not known": {
			change:  []string{"name: shop, labels:", "name: shop, annotations: {config.linkerd.io/default-inbound-policy: some}, labels:"},
			problem: "default-inbound-policy", another: true,
			want: []want{{"web", 8080, authz.Deny}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.NewReplacer(tc.change...).Replace(authzPods) + tc.add
			o, err := watch.Decode([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			got := translate.Translate(o, "cluster.local")
			var problems []string
			for _, p := range got.Problems {
				problems = append(problems, p.String())
			}
			if said := strings.Join(problems, "\n"); tc.problem == "" && said != "" || !strings.Contains(said, tc.problem) {
				t.Errorf("problems: got %q, want %q", said, tc.problem)
			}
			spec := got.Authz["shop/api"]
			for _, w := range tc.want {
				if v := decide(spec, w.account, w.port); v != w.verdict {
					t.Errorf("%q to port %d: got %v, want %v", w.account, w.port, v, w.verdict)
				}
			}
			is := map[string]bool{}
			for _, w := range got.Workloads {
				is[w.Name] = w.Authorized
				if w.Authorized != (got.Authz[w.UID] != nil) {
					t.Errorf("%s is authorized: %v, and has policies: %v", w.Name, w.Authorized, got.Authz[w.UID] != nil)
				}
			}
			if diff := cmp.Diff(map[string]bool{"api": !tc.openPort, "other": tc.another}, is); diff != "" {
				t.Error("pods with policies, -want +got:", diff)
			}
		})
	}
}
