package ownpolicy

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/api/policy/v1alpha1"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// maker makes objects and calls from bytes, of few values, so that they match often.
type maker struct{ data []byte }

func (m *maker) n(below int) int {
	if len(m.data) == 0 {
		return 0
	}
	b := m.data[0]
	m.data = m.data[1:]
	return int(b) % below
}

func pick[T any](m *maker, from ...T) T { return from[m.n(len(from))] }

func some[T any](m *maker, most int, one func() T) (out []T) {
	for range m.n(most + 1) {
		out = append(out, one())
	}
	return out
}

func maybe[T any](m *maker, values ...T) *T {
	if m.n(3) == 0 {
		return nil
	}
	v := pick(m, values...)
	return &v
}

func (m *maker) source() v1alpha1.AuthorizationSource {
	s := v1alpha1.AuthorizationSource{Type: pick(m, v1alpha1.SourceServiceAccount, v1alpha1.SourceSPIFFE, "ServiceAccount", "SPIFFE", "ServiceAccount", "Group")}
	if s.Type == "SPIFFE" != (m.n(16) == 15) {
		id := pick(m, "spiffe://home/ns/a/sa/x", "spiffe://away/ns/a/sa/x", "spiffe://home/ns/b/sa/y", "spiffe://home", "home/ns/a/sa/x", "spiffe://home/ns/a/sa/*")
		s.SPIFFE = &id
	} else {
		s.ServiceAccount = &v1alpha1.AuthorizationSourceServiceAccount{
			Namespace: maybe(m, gatewayv1.Namespace("a"), "b", "a", "b", ""), Name: pick(m, "x", "y", "*", "x", "y", ""),
		}
	}
	return s
}

func (m *maker) ports() []gatewayv1.PortNumber {
	return some(m, 2, func() gatewayv1.PortNumber {
		return pick(m, gatewayv1.PortNumber(80), 8080, 80, 8080, 443, int32(m.n(9)-1)*70000)
	})
}

func (m *maker) attributes() *v1alpha1.AuthorizationAttributes {
	exact, prefix, re, other := gatewayv1.PathMatchExact, gatewayv1.PathMatchPathPrefix, gatewayv1.PathMatchRegularExpression, gatewayv1.PathMatchType("Glob")
	path := func() gatewayv1.HTTPPathMatch {
		p := gatewayv1.HTTPPathMatch{Type: maybe(m, exact, prefix, exact, prefix, re, other), Value: maybe(m, "/a", "/a/b", "/a/", "/", "a", "/a//b", "/a/../b")}
		if p.Type != nil && *p.Type == re {
			v := pick(m, "/a.*", "/(a|b)", "(", "/a")
			p.Value = &v
		}
		return p
	}
	header := func() gatewayv1.HTTPHeaderMatch {
		t := maybe(m, gatewayv1.HeaderMatchExact, gatewayv1.HeaderMatchRegularExpression, "Exact", "RegularExpression", "Exact", "Prefix")
		return gatewayv1.HTTPHeaderMatch{Type: t, Name: pick(m, gatewayv1.HTTPHeaderName("X-Role"), "x-role", "X-Team", "x-role", "Host", ""), Value: pick(m, "admin", "adm.*", "guest", "", "(")}
	}
	if m.n(3) == 0 {
		return &v1alpha1.AuthorizationAttributes{Type: "CEL", CEL: &v1alpha1.AuthorizationExpression{Expression: conditions[m.n(len(conditions))].text}}
	}
	return &v1alpha1.AuthorizationAttributes{
		Type:    pick(m, v1alpha1.AuthorizationInline, "Inline", "Inline", "Inline", "Inline", "Inline", "CEL"),
		CEL:     pick(m, nil, nil, nil, nil, nil, &v1alpha1.AuthorizationExpression{Expression: "true"}),
		Methods: some(m, 2, func() gatewayv1.HTTPMethod { return pick(m, gatewayv1.HTTPMethod("GET"), "POST", "GET", "POST", "get") }),
		Paths:   some(m, 2, path), Headers: some(m, 1, header),
		Hosts: some(m, 1, func() gatewayv1.Hostname {
			return pick(m, gatewayv1.Hostname("shop.example"), "*.example", "SHOP.example", "*", "shop:80", "")
		}),
		Ports: m.ports(),
	}
}

func (m *maker) rule() v1alpha1.AuthorizationRule {
	r := v1alpha1.AuthorizationRule{Name: pick(m, "", "named")}
	if m.n(4) > 0 {
		r.Sources = some(m, 2, m.source)
		if r.Sources == nil && m.n(4) == 0 {
			r.Sources = []v1alpha1.AuthorizationSource{}
		}
	}
	if m.n(3) == 0 {
		r.NetworkAttributes = &v1alpha1.AuthorizationNetworkAttributes{Ports: m.ports()}
	}
	if m.n(2) == 0 {
		r.Authorization = m.attributes()
	}
	return r
}

func (m *maker) object(i int) object {
	o := object{unknowns: map[int]bool{}}
	p := &o.policy
	p.APIVersion, p.Kind = v1alpha1.Group+"/"+v1alpha1.Version, v1alpha1.Kind
	p.Namespace, p.Name = "a", string(rune('A'+i))
	p.Spec = v1alpha1.AuthorizationPolicySpec{
		TargetRefs: []v1alpha1.PolicyTargetReferenceWithLabelSelectors{{
			Group: pick(m, gatewayv1.Group(""), "core", "", "", gatewayv1.Group("apps"[:m.n(30)/29*4])), Kind: "Pod", Selector: &metav1.LabelSelector{},
		}},
		Action:           pick(m, v1alpha1.ActionAllow, v1alpha1.ActionDeny, v1alpha1.ActionAllow, v1alpha1.ActionAudit, "ALLOW", "DENY", "ALLOW", "DENIES"),
		EnforcementLevel: pick(m, v1alpha1.EnforcementApplication, "Application", "Application", "Network", "Application", "Network", "Host"),
		Rules:            some(m, 3, m.rule),
	}
	if p.Spec.Action == "DENIES" && m.n(3) > 0 {
		p.Spec.Action = "DENY"
	}
	o.unknown = m.n(25) == 24
	if len(p.Spec.Rules) > 0 && m.n(12) == 11 {
		o.unknowns[m.n(len(p.Spec.Rules))] = true
	}
	return o
}

// json is the object with the fields that nobody knows.
func (o *object) json(t *testing.T) []byte {
	data, err := json.Marshal(&o.policy)
	if err != nil {
		t.Fatal(err)
	}
	if !o.unknown && len(o.unknowns) == 0 {
		return data
	}
	var tree map[string]any
	if err := json.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	spec := tree["spec"].(map[string]any)
	if o.unknown {
		spec["except"] = "x"
	}
	for i := range o.unknowns {
		spec["rules"].([]any)[i].(map[string]any)["Sources"] = nil
	}
	data, err = json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// sent are paths, each with its readings.
var sent = [][]string{{"/"}, {"/a"}, {"/a/"}, {"/a/b"}, {"/ab"}, {"/b"}, {"/a/../b", "/b"}, {"/%61", "/a"}, {"//a/b", "/a/b"}, {"/a/b/c"}}

type fields [][2]string

// Next implements authz.Fields.
func (f fields) Next(name string, from int) (string, int, bool) {
	for i := from; i < len(f); i++ {
		if f[i][0] == name {
			return f[i][1], i + 1, true
		}
	}
	return "", 0, false
}

// Alike implements authz.Fields.
func (fields) Alike(string, int) (string, int, bool) { return "", 0, false }

func (m *maker) call() call {
	c := call{
		client: pick(m, [3]string{}, [3]string{"home", "a", "x"}, [3]string{"home", "a", "y"}, [3]string{"home", "b", "y"}, [3]string{"away", "a", "x"}),
		port:   pick(m, int32(80), 8080), method: pick(m, "GET", "POST", "GET", "POST", ""), paths: pick(m, sent...),
		host: pick(m, "shop.example", "SHOP.EXAMPLE:80", "cart.shop.example", "example", "other"),
	}
	c.headers = some(m, 2, func() [2]string { return [2]string{pick(m, "x-role", "x-team"), pick(m, "admin", "guest", "")} })
	return c
}

func (c *call) decide(set *authz.Set) authz.Decision {
	conn := &authz.Connection{Client: netip.MustParseAddr("10.1.1.1"), Port: uint16(c.port)}
	if c.client[0] != "" {
		conn.Peer = authz.ParsePeer("spiffe://" + c.client[0] + "/ns/" + c.client[1] + "/sa/" + c.client[2])
	}
	if c.method == "" {
		return set.DecideConnection(conn).Opaque()
	}
	return set.DecideRequest(conn, &authz.Request{Method: c.method, Authority: c.host, Path: c.paths[0] + "?q=/a", Fields: fields(c.headers)})
}

func compare(t *testing.T, data []byte) (verdicts [2]int) {
	m := &maker{data}
	var objects []object
	var policies []authz.Policy
	for i := range 1 + m.n(3) {
		o := m.object(i)
		p, ok, err := Read(o.json(t), "home")
		if err != nil || !ok {
			t.Fatalf("got %v, %v for %s", ok, err, o.json(t))
		}
		if !p.Selects("a", map[string]string{"app": "web"}) {
			t.Fatalf("does not select a pod of its namespace: %s", o.json(t))
		}
		if (o.unknown || len(o.unknowns) > 0) && len(p.Problems) == 0 {
			t.Fatalf("no problem with a field that is not known: %s", o.json(t))
		}
		objects, policies = append(objects, o), append(policies, p.Authz)
	}
	set, problems := authz.Compile(policies, authz.Options{TrustDomain: "home", Default: authz.ModeAllUnauthenticated})
	for range 6 {
		c := m.call()
		got, want := c.decide(set), oracle(objects, &c)
		if (got.Verdict == authz.Allow) != want {
			var text strings.Builder
			for i := range objects {
				text.Write(objects[i].json(t))
				text.WriteByte('\n')
			}
			t.Fatalf("got %+v, want allowed %v\ncall: %+v\nproblems: %v\n%s", got.Outcome, want, c, problems, text.String())
		}
		verdicts[got.Verdict]++
	}
	return verdicts
}

func FuzzOracle(f *testing.F) {
	r := rand.NewChaCha8([32]byte{1})
	for range 10 {
		data := make([]byte, 300)
		r.Read(data)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { compare(t, data) })
}

// TestOracle compares many random policies, and wants both verdicts among them.
func TestOracle(t *testing.T) {
	r := rand.NewChaCha8([32]byte{2})
	var all [2]int
	for range 600 {
		data := make([]byte, 100+r.Uint64()%300)
		r.Read(data)
		for v, n := range compare(t, data) {
			all[v] += n
		}
	}
	if all[0] < 400 || all[1] < 400 {
		t.Errorf("verdicts: got %v (deny, allow), want 400 of each", all)
	}
}
