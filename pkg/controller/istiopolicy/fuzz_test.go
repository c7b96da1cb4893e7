package istiopolicy

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/policy/authz"
)

// maker makes policies and calls from bytes, of few values, so that they match often.
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

// of makes a list in one case of four, of values of which the first is the most frequent.
func (m *maker) of(values ...string) []string {
	if m.n(4) > 0 {
		return nil
	}
	return some(m, 2, func() string { return values[min(m.n(len(values)), m.n(len(values)))] })
}

func (m *maker) source() *sourceSpec {
	if m.n(40) == 39 {
		return nil
	}
	principals := []string{"home/ns/a/sa/x", "cluster.local/ns/a/sa/x", "old/ns/b/sa/y", "away/ns/a/sa/x", "home/ns/a/*", "*/sa/x", "*", "*//home/ns/a/sa/x", "spiffe://home/ns/a/sa/x", ""}
	namespaces := []string{"a", "b", "a*", "*b", "*", "*-x-*", "x*y"}
	tokens := []string{"iss/sub", "*/sub", "iss/*", "*", "other/sub"}
	accounts := []string{"a/x", "x", "b/y", "*", "a/b/c"}
	blocks := []string{"10.1.0.0/16", "10.1.1.1", "10.2.0.0/16", "0.0.0.0/0", "10.1", "::/0"}
	s := &sourceSpec{
		Principals: m.of(principals...), NotPrincipals: m.of(principals...), RequestPrincipals: m.of(tokens...), NotRequestPrincipals: m.of(tokens...),
		Namespaces: m.of(namespaces...), NotNamespaces: m.of(namespaces...), IPBlocks: m.of(blocks...), NotIPBlocks: m.of(blocks...),
		TrustDomains: m.of("home", "aw*"), NotTrustDomains: m.of("home", "aw*"),
	}
	if m.n(4) == 0 {
		s.ServiceAccounts, s.NotServiceAccounts = m.of(accounts...), m.of(accounts...)
		if m.n(8) > 0 {
			s.Principals, s.NotPrincipals, s.Namespaces, s.NotNamespaces = nil, nil, nil, nil
		}
	}
	if m.n(50) == 49 {
		s.RemoteIPBlocks = []string{"10.0.0.0/8"}
	}
	return s
}

func (m *maker) operation() *operationSpec {
	if m.n(40) == 39 {
		return nil
	}
	hosts := []string{"shop.example", "*.example", "SHOP.example", "shop.*", "*", "shop.example:80", "shop.example:*", ""}
	paths := []string{"/a", "/a/*", "/a*", "*/b", "*", "/{*}/b", "/a/{**}", "/a/{*}", "/a/{*}.txt", "/*/{*}", "a", "/a//b", "/{**}/c"}
	ports := []string{"80", "8080", "443", "0", "70000", "http"}
	return &operationSpec{
		Hosts: m.of(hosts...), NotHosts: m.of(hosts...), Methods: m.of("GET", "POST", "P*", "*"), NotMethods: m.of("GET", "POST", "P*", "*"),
		Ports: m.of(ports...), NotPorts: m.of(ports...), Paths: m.of(paths...), NotPaths: m.of(paths...),
	}
}

func (m *maker) condition() conditionSpec {
	c := conditionSpec{Key: pick(m, "source.ip", "source.namespace", "source.principal", "request.auth.principal", "destination.port", "destination.ip",
		"request.headers[X-Role]", "request.headers[X-Role]", "request.auth.claims[groups]", "request.auth.claims[groups]", "request.auth.audiences",
		"connection.sni", "request.headers", "request.auth.claims[]")}
	values := map[string][]string{
		"source.ip": {"10.1.0.0/16", "10.2.0.1", "x"}, "source.namespace": {"a", "b*"}, "source.principal": {"home/ns/a/sa/x", "*"},
		"request.auth.principal": {"iss/sub", "*"}, "destination.port": {"80", "x"}, "destination.ip": {podAddress, "10.9.0.0/16", "10.8.0.0/16"},
	}[c.Key]
	if values == nil {
		values = []string{"admin", "adm*", "*in", "*", "guest", ""}
	}
	one := func() string { return pick(m, values...) }
	c.Values, c.NotValues = some(m, 2, one), some(m, m.n(2), one)
	return c
}

func (m *maker) rule() (r ruleSpec) {
	for range m.n(3) {
		r.From = append(r.From, struct {
			Source *sourceSpec `json:"source"`
		}{m.source()})
	}
	for range m.n(3) {
		r.To = append(r.To, struct {
			Operation *operationSpec `json:"operation"`
		}{m.operation()})
	}
	if m.n(2) == 0 {
		r.When = some(m, 2, m.condition)
	}
	return r
}

func (m *maker) policy() policy {
	p := policy{namespace: pick(m, "a", "a", "a", "root", "b"), unknowns: map[int]bool{}}
	p.spec.Action = pick(m, "ALLOW", "DENY", "", "ALLOW", "AUDIT", "DENY", "CUSTOM", "ALLOW", "DENY", "ALLOW", "LOG")
	if p.spec.Action == "LOG" && m.n(3) > 0 {
		p.spec.Action = "ALLOW"
	}
	if p.spec.Action == "CUSTOM" && m.n(4) > 0 {
		p.spec.Provider = &struct {
			Name string `json:"name"`
		}{"opa"}
	}
	switch m.n(8) {
	case 0:
		p.spec.Selector = &selector{MatchLabels: map[string]string{"app": pick(m, "web", "db")}}
	case 1:
		p.spec.TargetRefs = []targetRef{{Kind: pick(m, "Service", "Gateway", "Pod"), Name: pick(m, "web", "db")}}
		if p.spec.TargetRefs[0].Kind == "Gateway" {
			p.spec.TargetRefs[0].Group = "gateway.networking.k8s.io"
		}
	}
	p.spec.Rules = some(m, 3, m.rule)
	p.unknown = m.n(40) == 39
	if len(p.spec.Rules) > 0 && m.n(20) == 19 {
		p.unknowns[m.n(len(p.spec.Rules))] = true
	}
	return p
}

func (p *policy) json(t *testing.T, name string) []byte {
	object := map[string]any{
		"apiVersion": Group + "/v1", "kind": "AuthorizationPolicy",
		"metadata": map[string]any{"namespace": p.namespace, "name": name},
	}
	data, err := json.Marshal(p.spec)
	if err != nil {
		t.Fatal(err)
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		t.Fatal(err)
	}
	if p.unknown {
		spec["notRules"] = 1
	}
	for i := range p.unknowns {
		spec["rules"].([]any)[i].(map[string]any)["unless"] = 1
	}
	object["spec"] = spec
	if data, err = json.Marshal(object); err != nil {
		t.Fatal(err)
	}
	return data
}

var sent = [][]string{{"/a"}, {"/a/b"}, {"/a/b/c"}, {"/ab"}, {"/"}, {"/a/"}, {"/x/../a", "/a"}, {"/%61/b", "/a/b"}}

func (m *maker) call() call {
	c := call{
		client: pick(m, [3]string{}, [3]string{"home", "a", "x"}, [3]string{"home", "a", "x"}, [3]string{"old", "b", "y"}, [3]string{"away", "a", "x"}),
		ip:     pick(m, "10.1.1.1", "10.2.0.1"), port: pick(m, 80, 8080), method: pick(m, "GET", "POST", "GET", ""),
		host: pick(m, "shop.example", "SHOP.example:80", "other"), paths: pick(m, sent...),
		token: pick(m, [2]string{}, [2]string{"iss", "sub"}, [2]string{"iss", "other"}),
	}
	c.headers = some(m, 2, func() [2]string { return [2]string{pick(m, "x-role", "x-other"), pick(m, "admin", "guest", "")} })
	c.claims = some(m, 2, func() [2]string { return [2]string{pick(m, "groups", "aud"), pick(m, "admin", "guest")} })
	return c
}

type pairs [][2]string

// Next implements authz.Fields.
func (p pairs) Next(name string, from int) (string, int, bool) {
	for i := from; i < len(p); i++ {
		if p[i][0] == name {
			return p[i][1], i + 1, true
		}
	}
	return "", 0, false
}

// Alike implements authz.Fields.
func (pairs) Alike(string, int) (string, int, bool) { return "", 0, false }

// Value implements authz.Claims.
func (p pairs) Value(path []string, i int) (string, bool) {
	for _, kv := range p {
		if kv[0] == strings.Join(path, ".") {
			if i == 0 {
				return kv[1], true
			}
			i--
		}
	}
	return "", false
}

// Object implements authz.Claims.
func (p pairs) Object() map[string]any { return nil }

func (c *call) decide(set *authz.Set) string {
	conn := &authz.Connection{Client: netip.MustParseAddr(c.ip), Port: uint16(c.port)}
	if c.client[0] != "" {
		conn.Peer = authz.ParsePeer("spiffe://" + c.client[0] + "/ns/" + c.client[1] + "/sa/" + c.client[2])
	}
	if c.method == "" {
		return set.DecideConnection(conn).Opaque().Verdict.String()
	}
	r := &authz.Request{Method: c.method, Authority: c.host, Path: c.paths[0] + "?x=/b", Fields: pairs(c.headers), Claims: pairs(c.claims)}
	if c.token[0] != "" {
		r.Principal = c.token[0] + "/" + c.token[1]
	}
	return set.DecideRequest(conn, r).Verdict.String()
}

func compare(t *testing.T, data []byte, count map[string]int) {
	m := &maker{data}
	o := New(Mesh{RootNamespace: "root", TrustDomain: "home", TrustDomainAliases: []string{"old"}})
	var all []policy
	var text []string
	for i := range 1 + m.n(3) {
		p := m.policy()
		object := p.json(t, string(rune('A'+i)))
		added, err := o.Add(object)
		if err != nil || added == nil {
			t.Fatalf("got %v, %v for %s", added, err, object)
		}
		if (p.unknown || len(p.unknowns) > 0) && len(added.Problems) == 0 {
			t.Fatalf("no problem with a field that is not known: %s", object)
		}
		all, text = append(all, p), append(text, string(object))
	}
	w := pod
	w.Addresses = []netip.Addr{netip.MustParseAddr(podAddress)}
	set, problems := authz.Compile(o.For(&w), o.Options())
	for range 6 {
		c := m.call()
		want := oracle(all, &c)
		got := c.decide(set)
		if c.method == "" && want == "ask" {
			want = "deny" // an authorizer is asked about requests
		}
		if got != want {
			t.Fatalf("got %s, want %s\ncall: %+v\nproblems: %v\n%s", got, want, c, problems, strings.Join(text, "\n"))
		}
		count[got]++
	}
}

func FuzzOracle(f *testing.F) {
	r := rand.NewChaCha8([32]byte{1})
	for range 10 {
		data := make([]byte, 400)
		r.Read(data)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { compare(t, data, map[string]int{}) })
}

// TestOracle compares many random policies, and wants every verdict among them.
func TestOracle(t *testing.T) {
	r := rand.NewChaCha8([32]byte{2})
	count := map[string]int{}
	for range 1000 {
		data := make([]byte, 150+r.Uint64()%400)
		r.Read(data)
		compare(t, data, count)
	}
	if count["allow"] < 500 || count["deny"] < 500 || count["ask"] < 20 {
		t.Errorf("verdicts: got %v, want 500 allowed, 500 denied and 20 to ask", count)
	}
}
