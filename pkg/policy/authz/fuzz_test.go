package authz_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	. "github.com/underlane/underlane/pkg/policy/authz"
)

// predicate answers by the length of the path, and fails at times.
type predicate int

func (p predicate) Matches(_ *Connection, r *Request) (bool, error) {
	if len(r.Path)%4 == int(p) {
		return true, errors.New("no such key")
	}
	return len(r.Path)%2 == 0, nil
}

const badTemplate = "/a/{x}"

// maker makes policies and requests from bytes, of few values, so that they match
// often.
type maker struct{ data []byte }

func (m *maker) n(below int) int {
	if len(m.data) == 0 {
		return 0
	}
	b := m.data[0]
	m.data = m.data[1:]
	return int(b) % below
}

func (m *maker) one(in int) bool { return m.n(in) == 1 }

func pick[T any](m *maker, from ...T) T { return from[m.n(len(from))] }

func several[T any](m *maker, most int, one func() T) (out []T) {
	for range m.n(most + 1) {
		out = append(out, one())
	}
	return out
}

// rarely makes a list in one case of three.
func rarely[T any](m *maker, one func() T) []T {
	if !m.one(3) {
		return nil
	}
	return several(m, 2, one)
}

var (
	uris     = []string{"", "spiffe://home/ns/a/sa/x", "spiffe://home/ns/a/sa/y", "spiffe://home/ns/b/sa/x", "spiffe://away/ns/a/sa/x", "spiffe://home/vm/a", "spiffe://away"}
	prefixes = []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "0.0.0.0/0", "::/0", "fd00::/8", "fd00:1::/32"}
	addrs    = []string{"10.1.2.3", "10.1.9.9", "192.0.2.1", "fd00:1::1", "::ffff:10.1.2.3", "2001:db8::1"}
	paths    = []string{"/", "/a", "/a/b", "/a/b/c", "/ab", "/pkg.Svc/Get", "/pkg.Svc/Put", "/a%2fb", "/a%20b", "/.x/a", "/a;x"}
	sent     = append([]string{"", "*", "//a/b", "/a/../ab", "/a/./b", "/a\\b", "/%61", "/%61/b/", "/a/", "/a/%", "/a?x=/b", "/a/b/..", "/..", "/a%2Fb%20", "/a;x", "/a;x/b", "/ab/..;/a", "/a;x/../ab", ";"}, paths...)
	words    = []string{"", "GET", "POST", "x", "xy", "yx"}
)

func (m *maker) match(of []string) Match {
	kind := pick(m, Exact, Exact, Exact, Prefix, Suffix, Present, Regex, MatchKind(99))
	switch {
	case kind == MatchKind(99) && !m.one(4):
		kind = Exact
	case kind == Regex:
		return Match{Regex, pick(m, ".*", "x.*", "/a/?.*", "a|b", "(?i)GET", "/a/[a-c]", "(")}
	}
	return Match{kind, pick(m, of...)}
}

func (m *maker) path() Match {
	if m.one(5) {
		return Match{Template, pick(m, "/{*}", "/a/{*}", "/a/{**}", "/{*}/b/{**}", "/{**}/c", "/a/{*}/c", "/{*}/{*}", badTemplate)}
	}
	return m.match(paths)
}

func (m *maker) prefix() netip.Prefix {
	if m.n(40) == 39 {
		return netip.Prefix{}
	}
	return netip.MustParsePrefix(pick(m, prefixes...))
}

func (m *maker) source() Source {
	uri := func() Match { return m.match(uris) }
	namespace := func() Match { return m.match([]string{"a", "b", "c"}) }
	domain := func() Match { return m.match([]string{"home", "away"}) }
	account := func() ServiceAccount {
		return ServiceAccount{pick(m, "a", "b", "a", "b", "a", ""), pick(m, "x", "y", "*", "x", "y", "x*")}
	}
	network := func() Network { return Network{m.prefix(), rarely(m, m.prefix)} }
	token := func() Match { return m.match([]string{"iss/sub", "iss/other", "x/sub"}) }
	return Source{
		Principals: rarely(m, uri), NotPrincipals: rarely(m, uri),
		ServiceAccounts: rarely(m, account), NotServiceAccounts: rarely(m, account),
		Namespaces: rarely(m, namespace), NotNamespaces: rarely(m, namespace),
		TrustDomains: rarely(m, domain), NotTrustDomains: rarely(m, domain),
		Networks: rarely(m, network), NotNetworks: rarely(m, network),
		RequestPrincipals: rarely(m, token), NotRequestPrincipals: rarely(m, token),
		Authentication: pick(m, AnyAuthentication, AnyAuthentication, AnyAuthentication, Authenticated, Unauthenticated, Authentication(m.n(4))),
	}
}

func (m *maker) operation() Operation {
	port := func() PortRange {
		return pick(m, Port(80), Port(8080), PortRange{1, 100}, PortRange{80, 9000}, PortRange{uint16(m.n(90)), 85})
	}
	host := func() Match {
		return m.match([]string{"shop", "SHOP.example", ".example", "[::1]", "shop:80"[:4+m.n(4)/3*3]})
	}
	word := func() Match { return m.match(words) }
	grpc := func() GRPCMethod {
		return GRPCMethod{pick(m, "pkg.Svc", "a", ""), pick(m, "Get", "b", "", "Get", "b/c")}
	}
	return Operation{
		Ports: rarely(m, port), NotPorts: rarely(m, port),
		Hosts: rarely(m, host), NotHosts: rarely(m, host),
		Methods: rarely(m, word), NotMethods: rarely(m, word),
		Paths: rarely(m, m.path), NotPaths: rarely(m, m.path),
		GRPC: rarely(m, grpc), NotGRPC: rarely(m, grpc),
		Routes: rarely(m, func() string { return pick(m, "r1", "r2", "r1", "r2", "") }),
	}
}

func (m *maker) condition() Condition {
	word := func() Match { return m.match(words) }
	kind := pick(m, ConditionHeader, ConditionClaim, ConditionHeader, ConditionClaim, ConditionSource, ConditionOperation, ConditionPredicate, ConditionKind(m.n(9)))
	c := Condition{Kind: kind, Name: pick(m, "x-role", "x-team"), Claim: []string{pick(m, "groups", "realm")}, Values: several(m, 2, word), NotValues: rarely(m, word)}
	switch kind {
	case ConditionSource:
		c.Source = m.source()
	case ConditionOperation:
		c.Operation = m.operation()
	case ConditionPredicate:
		c.Predicate = predicate(m.n(5))
	}
	return c
}

func (m *maker) rule() Rule {
	return Rule{
		Name: pick(m, "", "named"), From: several(m, 2, m.source), To: several(m, 2, m.operation),
		When: rarely(m, m.condition), Unknown: m.unknown(),
	}
}

func (m *maker) unknown() []string {
	if m.n(40) == 39 {
		return []string{"spec.other"}
	}
	return nil
}

func (m *maker) policies() (out []Policy) {
	for i := range m.n(7) {
		p := Policy{
			Name:   string(rune('A' + i)),
			Action: pick(m, ActionAllow, ActionAllow, ActionDeny, ActionAudit, ActionExternal, ActionAllow, ActionDeny, Action(m.n(7))),
			Rules:  several(m, 3, m.rule), Rehearse: m.one(8), Unknown: m.unknown(),
		}
		if p.Action == ActionExternal {
			p.Provider = pick(m, "opa", "opa", "opa", "other", "")
		}
		out = append(out, p)
	}
	return out
}

func (m *maker) connection() (*Connection, *client) {
	uri := pick(m, uris...)
	who := &client{uri: uri}
	if rest, ok := strings.CutPrefix(uri, "spiffe://"); ok {
		parts := strings.Split(rest, "/")
		who.domain = parts[0]
		if len(parts) == 5 {
			who.namespace, who.account = parts[2], parts[4]
		}
	}
	return &Connection{
		Peer: ParsePeer(uri), Client: netip.MustParseAddr(pick(m, addrs...)),
		Port: pick(m, uint16(80), 8080, 443), Probe: m.n(30) == 29,
	}, who
}

func (m *maker) request() *Request {
	pair := func(names ...string) func() [2]string {
		return func() [2]string { return [2]string{pick(m, names...), pick(m, words...)} }
	}
	header := fields(several(m, 3, pair("x-role", "x-team")))
	return &Request{
		Method: pick(m, "GET", "POST", "x", "get", "X"), Authority: pick(m, "shop", "shop.EXAMPLE:80", "Shop.", "[::1]:80", "", "shop:80:80", "x@shop", "[::1]shop", "::1", "shop:http", "[::1"),
		Path: pick(m, sent...), Fields: &header, Route: pick(m, "", "r1", "r2"),
		Principal: pick(m, "", "iss/sub", "x/sub"), Claims: claims(several(m, 3, pair("groups", "realm"))),
		External: pick(m, NotAsked, Granted, Refused),
	}
}

// compare compiles policies from data and compares the engine with the oracle.
func compare(t *testing.T, data []byte) (verdicts [4]int) {
	m := &maker{data}
	o := Options{
		TrustDomain: pick(m, "home", "home", "home", "away", ""),
		Default:     Mode(m.n(7)), Unmatched: Mode(m.n(7)),
		Cluster: several(m, 1, func() netip.Prefix { return netip.MustParsePrefix(pick(m, prefixes...)) }),
	}
	policies := m.policies()
	set, problems := Compile(policies, o)
	reference := &oracle{policies, o}
	for range 3 {
		c, who := m.connection()
		early := set.DecideConnection(c)
		opaque := early.Opaque()
		for range 4 {
			r := m.request()
			r.Provider = set.Provider()
			for i := range policies { // without one that is applied, that of the rehearsal
				if p := &policies[i]; r.Provider == "" && p.Rehearse && p.Action == ActionExternal {
					r.Provider = p.Provider
				}
			}
			got, want := set.DecideRequest(c, r), reference.decide(c, r, who)
			verdicts[got.Verdict]++
			got.Failed = Failed{} // the engine looks for rules in another order
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("decision (-oracle +engine):\n%s\nconnection: %+v\nrequest: %+v %+v\noptions: %+v\npolicies: %s\nproblems: %v", diff, *c, *r, *r.Fields.(*fields), o, brief(policies), problems)
			}
			// What the first stage decides holds for every request, and opaque traffic
			// passes only if all requests would.
			if early.Verdict != NeedsRequest && got.Verdict != early.Verdict {
				t.Fatalf("connection: %+v, its request: %+v; want the same verdict\npolicies: %s\nrequest: %+v", early, got, brief(policies), *r)
			}
			if opaque.Verdict == Allow && got.Verdict != Allow {
				t.Fatalf("opaque traffic is let through, a request gets %+v\npolicies: %s\nrequest: %+v", got, brief(policies), *r)
			}
			var first Place
			set.Audits(c, r, func(p Place) bool { first = p; return false })
			if first != got.Audit {
				t.Fatalf("first audit: got %+v, want %+v", first, got.Audit)
			}
		}
	}
	return verdicts
}

func FuzzOracle(f *testing.F) {
	r := rand.NewChaCha8([32]byte{1})
	for range 50 {
		data := make([]byte, 600)
		r.Read(data)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { compare(t, data) })
}

// TestOracle compares many random policies, and wants every verdict among them.
func TestOracle(t *testing.T) {
	r := rand.NewChaCha8([32]byte{2})
	var all [4]int
	for range 300 {
		data := make([]byte, 400+r.Uint64()%1200)
		r.Read(data)
		for v, n := range compare(t, data) {
			all[v] += n
		}
	}
	for _, v := range []Verdict{Allow, Deny, Ask} {
		if all[v] < 20 {
			t.Errorf("%v: %d decisions of %v, want 20", v, all[v], all)
		}
	}
	t.Logf("verdicts: %v", all)
}

var unset = regexp.MustCompile(`\b\w+:(\[\]|\{ *\}|0|<nil>|false|)( |\}|$)`)

// brief prints values without the fields that are not set.
func brief(v any) string {
	s := fmt.Sprintf("%+v", v)
	for {
		shorter := unset.ReplaceAllString(s, "$2")
		if shorter == s {
			return s
		}
		s = shorter
	}
}
