package linkerdpolicy

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/underlane/underlane/pkg/policy/authz"
)

var update = flag.Bool("update", false, "write the golden files")

func load(t *testing.T, text string) *Objects {
	t.Helper()
	o := new(Objects)
	for _, doc := range strings.Split(text, "\n---\n") {
		object, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Add(object); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func emojivoto(t *testing.T) (*authz.Set, []authz.Policy, []authz.Problem) {
	t.Helper()
	text, err := os.ReadFile("testdata/emojivoto.yaml")
	if err != nil {
		t.Fatal(err)
	}
	o := load(t, string(text))
	policies, mode, problems := o.ForServer(&o.Servers[0])
	set, more := authz.Compile(policies, authz.Options{TrustDomain: "cluster.local", Default: mode, Unmatched: mode})
	return set, policies, append(problems, more...)
}

// unset are the fields without a value.
var unset = regexp.MustCompile(`(?m)^ .*: (null|""|false)\n`)

func TestGolden(t *testing.T) {
	_, policies, problems := emojivoto(t)
	text, err := yaml.Marshal(policies)
	if err != nil {
		t.Fatal(err)
	}
	got := unset.ReplaceAll(text, nil)
	for _, p := range problems {
		got = fmt.Appendln(got, "#", p)
	}
	const file = "testdata/emojivoto.golden"
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got); go test -update writes it:\n%s", file, diff)
	}
}

func TestDecisions(t *testing.T) {
	set, _, _ := emojivoto(t)
	public := RouteName("gateway.networking.k8s.io", "HTTPRoute", "public")
	for name, tc := range map[string]struct {
		client, addr, route string // "ns/sa"
		want                authz.Verdict
	}{
		"service account on any route":         {"emojivoto/vote-bot", "10.1.1.1", "other", authz.Allow},
		"service account of another namespace": {"shop/vote-bot", "10.1.1.1", "other", authz.Deny},
		"identity and network":                 {"ingress/nginx", "10.1.1.1", public, authz.Allow},
		"identity by suffix":                   {"edge/any", "10.1.1.1", public, authz.Allow},
		"identity by namespace":                {"partner/any", "10.1.1.1", public, authz.Allow},
		"identity, another network":            {"ingress/nginx", "192.0.2.1", public, authz.Deny},
		"identity, excepted address":           {"ingress/nginx", "10.9.9.9", public, authz.Deny},
		"identity, another route":              {"ingress/nginx", "10.1.1.1", "other", authz.Deny},
		"no identity":                          {"", "10.1.1.1", public, authz.Deny},
	} {
		c := &authz.Connection{Client: netip.MustParseAddr(tc.addr), Port: 8080}
		if ns, sa, ok := strings.Cut(tc.client, "/"); ok {
			c.Peer = authz.ParsePeer("spiffe://cluster.local/ns/" + ns + "/sa/" + sa)
		}
		if got := set.DecideRequest(c, &authz.Request{Method: "GET", Path: "/", Route: tc.route}); got.Verdict != tc.want {
			t.Errorf("%s: got %+v, want %v", name, got.Outcome, tc.want)
		}
	}
}

func TestIdentities(t *testing.T) {
	for id, want := range map[string]string{
		"*": "Authenticated", "spiffe://td/x": "spiffe://td/x",
		"a.b.serviceaccount.identity.linkerd.td.org": "spiffe://td.org/ns/b/sa/a",
		"*.b.serviceaccount.identity.linkerd.td":     "spiffe://td/ns/b/sa/*",
		"*.serviceaccount.identity.linkerd.td":       "td",
		"":                                           "error", "*.td": "error", "a.*.serviceaccount.identity.linkerd.td": "error", "**.b.serviceaccount.identity.linkerd.td": "error",
		"a.b.serviceaccount.identity.linkerd": "error", "spiffe://td/*": "error", "a.b.c.serviceaccount.identity.linkerd.td": "error",
	} {
		s, err := identity(id)
		got := ""
		switch {
		case err != nil:
			got = "error"
		case s.Authentication == authz.Authenticated:
			got = "Authenticated"
		case len(s.Principals) == 1:
			got = s.Principals[0].Value + map[authz.MatchKind]string{authz.Prefix: "*"}[s.Principals[0].Kind]
		case len(s.TrustDomains) == 1:
			got = s.TrustDomains[0].Value
		}
		if got != want {
			t.Errorf("identity %q: got %s (%v), want %s", id, got, err, want)
		}
	}
}

// TestAccessPolicies: what a Server says beside the policies, and what of it is
// not understood.
func TestAccessPolicies(t *testing.T) {
	for spec, want := range map[string]authz.Mode{
		"port: 80": authz.ModeDeny, "accessPolicy: audit": authz.ModeAudit, "accessPolicy: cluster-authenticated": authz.ModeClusterAuthenticated,
		"accessPolicy: everybody": authz.ModeDeny, "{accessPolicy: all-unauthenticated, tier: 1}": authz.ModeDeny,
		"accessPolicy: [all-unauthenticated]": authz.ModeDeny,
	} {
		o := load(t, "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {namespace: a, name: b}\nspec:\n  "+spec)
		_, got, problems := o.ForServer(&o.Servers[0])
		bad := strings.ContainsAny(spec, "[{") || strings.Contains(spec, "everybody")
		if got != want || bad != (len(problems) > 0) {
			t.Errorf("%s: got %v and %v, want %v and problems: %v", spec, got, problems, want, bad)
		}
	}
}

// TestReferences: a policy allows nothing if one of its references is not what it
// should be.
func TestReferences(t *testing.T) {
	const head = "apiVersion: policy.linkerd.io/v1alpha1\nmetadata: {namespace: a, name: %s}\nkind: %s\nspec: {%s}"
	objects := fmt.Sprintf(head, "server", "Server", "port: 80") + "\n---\n" +
		fmt.Sprintf(head, "all", "MeshTLSAuthentication", `identities: ["*"]`) + "\n---\n" +
		fmt.Sprintf(head, "empty", "MeshTLSAuthentication", "") + "\n---\n" +
		fmt.Sprintf(head, "newer", "MeshTLSAuthentication", `identities: ["*"], butNot: [x]`) + "\n---\n" +
		fmt.Sprintf(head, "any", "NetworkAuthentication", "networks: [{cidr: 0.0.0.0/0}]") + "\n---\n" +
		fmt.Sprintf(head, "bad", "NetworkAuthentication", "networks: [{cidr: 10.0.0.0/99}]") + "\n---\n" +
		fmt.Sprintf(head, "newer", "NetworkAuthentication", "networks: [{cidr: 0.0.0.0/0, unless: x}]") + "\n---\n" +
		fmt.Sprintf(head, "empty", "NetworkAuthentication", "networks: []")
	mesh := func(name string) string {
		return "{group: policy.linkerd.io, kind: MeshTLSAuthentication, name: " + name + "}"
	}
	net := func(name string) string {
		return "{group: policy.linkerd.io, kind: NetworkAuthentication, name: " + name + "}"
	}
	for refs, want := range map[string]string{
		"requiredAuthenticationRefs: []":                                        "",
		"requiredAuthenticationRefs: [" + mesh("all") + "]":                     "",
		"requiredAuthenticationRefs: [" + mesh("all") + ", " + net("any") + "]": "",
		"": "it is missing",
		"requiredAuthenticationRefs: [" + mesh("all") + ", " + net("none") + "]":      "NetworkAuthentication.policy.linkerd.io a/none does not exist",
		"requiredAuthenticationRefs: [" + mesh("empty") + "]":                         "it has no identities",
		"requiredAuthenticationRefs: [" + net("empty") + "]":                          "it has no networks",
		"requiredAuthenticationRefs: [" + net("bad") + "]":                            `network "10.0.0.0/99"`,
		"requiredAuthenticationRefs: [" + mesh("newer") + "]":                         `butNot is not known`,
		"requiredAuthenticationRefs: [" + net("newer") + "]":                          `unless is not known`,
		"requiredAuthenticationRefs: [{kind: User, name: x}]":                         "User a/x: the kind is not known",
		"requiredAuthenticationRefs: [" + mesh("all") + ", " + mesh("all") + "]":      "more than one MeshTLSAuthentication",
		"requiredAuthenticationRefs: [" + net("any") + ", " + net("any") + "]":        "more than one NetworkAuthentication",
		"requiredAuthenticationRefs: [{kind: ServiceAccount, name: x, uid: 1}]":       `uid: is not known`,
		"requiredAuthenticationRefs: [{kind: ServiceAccount, name: x, namespace: 1}]": "cannot be of type number",
	} {
		target := "targetRef: {group: policy.linkerd.io, kind: Server, name: server}"
		if refs != "" {
			target += ", "
		}
		o := load(t, objects+"\n---\n"+fmt.Sprintf(head, "p", "AuthorizationPolicy", target+refs))
		policies, mode, problems := o.ForServer(&o.Servers[0])
		set, more := authz.Compile(policies, authz.Options{TrustDomain: "td", Default: mode, Unmatched: mode})
		problems = append(problems, more...)
		got := fmt.Sprint(problems)
		if (want == "") != (len(problems) == 0) || !strings.Contains(got, want) {
			t.Errorf("%s: got the problems %s, want one that says %q", refs, got, want)
		}
		c := &authz.Connection{Peer: authz.ParsePeer("spiffe://td/ns/a/sa/x"), Client: netip.MustParseAddr("10.1.1.1"), Port: 80}
		if d := set.DecideConnection(c); (d.Verdict == authz.Allow) != (want == "") || len(policies) != 1 {
			t.Errorf("%s: got %+v with %d policies, want it allowed: %v", refs, d.Outcome, len(policies), want == "")
		}
	}
}

// TestTargets: a policy is about the Server, its namespace or its routes.
func TestTargets(t *testing.T) {
	const object = "apiVersion: policy.linkerd.io/v1alpha1\nmetadata: {namespace: a, name: server}\nkind: %s\nspec: {%s}"
	const public = "httproute.gateway.networking.k8s.io/public"
	for ref, want := range map[string]string{ // opaque, on the route public, problems
		"group: policy.linkerd.io, kind: Server, name: server":                 "110",
		"group: policy.linkerd.io, kind: server, name: server":                 "110",
		"group: policy.linkerd.io, kind: Server, name: other":                  "000",
		"kind: Namespace, name: a":                                             "110",
		"group: core, kind: Namespace, name: a":                                "110",
		"kind: Namespace, name: b":                                             "000",
		"group: gateway.networking.k8s.io, kind: HTTPRoute, name: public":      "010",
		"group: policy.linkerd.io, kind: HTTPRoute, name: public":              "000",
		"group: gateway.networking.k8s.io, kind: GRPCRoute, name: public":      "000",
		"kind: Server, name: server":                                           "001",
		"group: apps, kind: Deployment, name: server":                          "001",
		"group: policy.linkerd.io, kind: Server, name: server, sectionName: x": "001",
		"group: policy.linkerd.io, kind: Server, name: [server]":               "001",
		"name: server": "001",
	} {
		o := load(t, fmt.Sprintf(object, "Server", "port: 80")+"\n---\n"+
			fmt.Sprintf(object, "AuthorizationPolicy", "targetRef: {"+ref+"}, requiredAuthenticationRefs: []"))
		policies, mode, problems := o.ForServer(&o.Servers[0])
		set, more := authz.Compile(policies, authz.Options{TrustDomain: "td", Default: mode, Unmatched: mode})
		c := &authz.Connection{Client: netip.MustParseAddr("10.1.1.1"), Port: 80}
		got := ""
		for _, is := range []bool{
			set.DecideConnection(c).Opaque().Verdict == authz.Allow,
			set.DecideRequest(c, &authz.Request{Path: "/", Route: public}).Verdict == authz.Allow,
			len(problems)+len(more) > 0,
		} {
			got += map[bool]string{false: "0", true: "1"}[is]
		}
		if got != want {
			t.Errorf("%s: got %s, want %s (opaque, on its route, problems)", ref, got, want)
		}
		if other := set.DecideRequest(c, &authz.Request{Path: "/", Route: "x"}); (other.Verdict == authz.Allow) != (want[0] == '1') {
			t.Errorf("%s: on another route: got %+v", ref, other.Outcome)
		}
	}
}
