package authz_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	. "github.com/underlane/underlane/pkg/policy/authz"
)

// fields and claims are those of a request: pairs of a name and a value.
type (
	fields [][2]string
	claims [][2]string
)

func (f *fields) Next(name string, from int) (string, int, bool) {
	for i := from; i < len(*f); i++ {
		if (*f)[i][0] == name {
			return (*f)[i][1], i + 1, true
		}
	}
	return "", 0, false
}

// Alike implements authz.Fields.
func (f *fields) Alike(name string, from int) (string, int, bool) {
	for i := from; i < len(*f); i++ {
		if n := (*f)[i][0]; n != name && strings.ReplaceAll(n, "_", "-") == strings.ReplaceAll(name, "_", "-") {
			return (*f)[i][1], i + 1, true
		}
	}
	return "", 0, false
}

func (c claims) Value(path []string, i int) (string, bool) {
	name := strings.Join(path, ".")
	for _, kv := range c {
		if kv[0] == name {
			if i == 0 {
				return kv[1], true
			}
			i--
		}
	}
	return "", false
}

func (c claims) Object() map[string]any {
	out := map[string]any{}
	for _, kv := range c {
		out[kv[0]] = kv[1]
	}
	return out
}

// from returns a connection of a service account of the workload's trust domain to
// port 8080, or with "" of a client without an identity.
func from(account string) *Connection {
	c := &Connection{Client: netip.MustParseAddr("10.1.2.3"), Port: 8080}
	if namespace, name, ok := strings.Cut(account, "/"); ok {
		c.Peer = ParsePeer("spiffe://cluster.local/ns/" + namespace + "/sa/" + name)
	}
	return c
}

func call(method, path string) *Request {
	return &Request{Method: method, Path: path, Authority: "billing:8080"}
}

func exact(values ...string) (out []Match) {
	for _, v := range values {
		out = append(out, Match{Exact, v})
	}
	return out
}

func policy(name string, a Action, rules ...Rule) Policy {
	return Policy{Name: name, Action: a, Rules: rules}
}

func compile(t *testing.T, o Options, policies ...Policy) *Set {
	t.Helper()
	o.TrustDomain = "cluster.local"
	set, problems := Compile(policies, o)
	for _, p := range problems {
		t.Errorf("problem: %v", p)
	}
	return set
}

var (
	web       = Source{ServiceAccounts: []ServiceAccount{{"shop", "web"}}}
	mayCharge = policy("charge", ActionAllow, Rule{
		From: []Source{web}, To: []Operation{{Methods: exact("POST"), Paths: exact("/charge")}},
	})
)

func TestOnlyWebMayCharge(t *testing.T) {
	set := compile(t, Options{}, mayCharge)
	rule := Place{Policy: "charge", Number: 1}
	for name, tc := range map[string]struct {
		client, method, path string
		want                 Outcome
	}{
		"web":            {"shop/web", "POST", "/charge?x=1", Outcome{Allow, WhyRule, rule}},
		"another method": {"shop/web", "GET", "/charge", Outcome{Deny, WhyUnmatched, Place{}}},
		"another path":   {"shop/web", "POST", "/refund", Outcome{Deny, WhyUnmatched, Place{}}},
		"another client": {"shop/vote", "POST", "/charge", Outcome{Deny, WhyUnmatched, Place{}}},
		"no identity":    {"", "POST", "/charge", Outcome{Deny, WhyUnmatched, Place{}}},
	} {
		got := set.DecideRequest(from(tc.client), call(tc.method, tc.path)).Outcome
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestConnections is about what is decided before a request, and about traffic that
// is none.
func TestConnections(t *testing.T) {
	noAdmin := policy("no-admin", ActionDeny, Rule{To: []Operation{{Paths: []Match{{Prefix, "/admin"}}, Ports: []PortRange{Port(8080)}}}})
	all := policy("all", ActionAllow, Rule{From: []Source{{Authentication: Authenticated}}})
	open := Options{Default: ModeAllUnauthenticated}
	for name, tc := range map[string]struct {
		o        Options
		policies []Policy
		client   string
		port     uint16
		want     Outcome
		opaque   Verdict
	}{
		"allowed by path":                  {Options{}, []Policy{mayCharge}, "shop/web", 8080, Outcome{NeedsRequest, WhyRule, Place{"charge", "", 1}}, Deny},
		"allowed by path, another client":  {Options{}, []Policy{mayCharge}, "shop/vote", 8080, Outcome{Deny, WhyUnmatched, Place{}}, Deny},
		"allowed by path and without":      {Options{}, []Policy{mayCharge, all}, "shop/web", 8080, Outcome{Allow, WhyRule, Place{"all", "", 1}}, Allow},
		"allowed by path, unmatched too":   {Options{Unmatched: ModeAllAuthenticated}, []Policy{mayCharge}, "shop/web", 8080, Outcome{Allow, WhyUnmatched, Place{}}, Allow},
		"denied by path":                   {open, []Policy{noAdmin}, "shop/web", 8080, Outcome{NeedsRequest, WhyRule, Place{"no-admin", "", 1}}, Deny},
		"denied by path, of another port":  {open, []Policy{noAdmin}, "shop/web", 9090, Outcome{Allow, WhyDefault, Place{}}, Allow},
		"denied by path, and anyway":       {Options{}, []Policy{noAdmin}, "shop/web", 8080, Outcome{Deny, WhyDefault, Place{}}, Deny},
		"an authorizer":                    {open, []Policy{{Name: "opa", Action: ActionExternal, Provider: "opa", Rules: []Rule{{}}}}, "", 8080, Outcome{NeedsRequest, WhyRule, Place{"opa", "", 1}}, Deny},
		"audited by path":                  {open, []Policy{policy("a", ActionAudit, Rule{To: []Operation{{Methods: exact("GET")}}})}, "", 8080, Outcome{Allow, WhyDefault, Place{}}, Allow},
		"the mode audit":                   {Options{Default: ModeAudit}, nil, "", 8080, Outcome{Allow, WhyAudit, Place{}}, Allow},
		"no policy that can match, denied": {Options{}, []Policy{policy("none", ActionAllow)}, "shop/web", 8080, Outcome{Deny, WhyUnmatched, Place{}}, Deny},
	} {
		c := from(tc.client)
		c.Port = tc.port
		got := compile(t, tc.o, tc.policies...).DecideConnection(c)
		if diff := cmp.Diff(tc.want, got.Outcome); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		opaque := got.Opaque()
		if opaque.Verdict != tc.opaque {
			t.Errorf("%s: opaque: got %v, want %v", name, opaque.Verdict, tc.opaque)
		}
		if got.Verdict == NeedsRequest && opaque.Why != WhyOpaque {
			t.Errorf("%s: opaque: got the reason %v, want %v", name, opaque.Why, WhyOpaque)
		}
	}
}

func TestNothingIsKnown(t *testing.T) {
	var none *Set
	zero, _ := Compile(nil, Options{})
	for name, set := range map[string]*Set{"no Set": none, "zero Options": zero} {
		c := from("shop/web")
		if got := set.DecideConnection(c); got.Verdict != Deny {
			t.Errorf("%s: connection: got %+v, want deny", name, got)
		}
		if got := set.DecideRequest(c, call("GET", "/")); got.Verdict != Deny {
			t.Errorf("%s: request: got %+v, want deny", name, got)
		}
		c.Probe = true
		if got := set.DecideRequest(c, nil); got.Verdict != Allow || got.Why != WhyProbe {
			t.Errorf("%s: probe: got %+v, want allow", name, got)
		}
	}
	set := compile(t, Options{Default: ModeAllUnauthenticated}, policy("d", ActionDeny, Rule{To: []Operation{{Methods: exact("PUT")}}}))
	if got := set.DecideRequest(nil, call("GET", "/")); got.Verdict != Deny {
		t.Errorf("no connection: got %+v, want deny", got)
	}
	if got := set.DecideRequest(from(""), nil); got.Verdict != Deny || got.Why != WhyOpaque {
		t.Errorf("no request: got %+v, want it denied as opaque", got)
	}
}

// TestModes has Linkerd's default policies.
func TestModes(t *testing.T) {
	cluster := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	inside, outside := netip.MustParseAddr("::ffff:10.1.2.3"), netip.MustParseAddr("192.0.2.1")
	for mode, want := range map[string]string{ // inside with and without identity, outside with and without
		"all-unauthenticated": "1111", "all-authenticated": "1010", "cluster-unauthenticated": "1100",
		"cluster-authenticated": "1000", "deny": "0000", "audit": "1111",
	} {
		m, err := ParseMode(mode)
		if err != nil {
			t.Fatal(err)
		}
		set := compile(t, Options{Default: m, Cluster: cluster})
		got := ""
		for _, addr := range []netip.Addr{inside, outside} {
			for _, account := range []string{"shop/web", ""} {
				c := from(account)
				c.Client = addr
				d := set.DecideConnection(c)
				got += map[Verdict]string{Allow: "1", Deny: "0"}[d.Verdict]
				if (d.Why == WhyAudit) != (mode == "audit") {
					t.Errorf("%s: got the reason %v", mode, d.Why)
				}
			}
		}
		if got != want || m.String() != mode {
			t.Errorf("%s (%v): got %s, want %s", mode, m, got, want)
		}
	}
	if m, err := ParseMode("all"); err == nil || m != ModeDeny {
		t.Errorf("ParseMode(all): got %v, %v; want deny and an error", m, err)
	}
}

func TestExternal(t *testing.T) {
	ask := Policy{Name: "opa", Action: ActionExternal, Provider: "opa", Rules: []Rule{{To: []Operation{{Paths: []Match{{Prefix, "/admin"}}}}}}}
	noPut := policy("no-put", ActionDeny, Rule{To: []Operation{{Methods: exact("PUT")}}})
	set := compile(t, Options{Default: ModeAllUnauthenticated}, ask, noPut)
	if got := set.Provider(); got != "opa" {
		t.Errorf("provider: got %q, want opa", got)
	}
	for _, tc := range []struct {
		method, path string
		answer       Answer
		want         Outcome
	}{
		{"GET", "/admin", NotAsked, Outcome{Ask, WhyRule, Place{"opa", "", 1}}},
		{"GET", "/admin", Granted, Outcome{Allow, WhyDefault, Place{}}},
		{"GET", "/admin", Refused, Outcome{Deny, WhyExternal, Place{"opa", "", 1}}},
		{"GET", "/", Refused, Outcome{Allow, WhyDefault, Place{}}},
		{"PUT", "/admin", NotAsked, Outcome{Deny, WhyRule, Place{"no-put", "", 1}}}, // nothing to ask
		{"PUT", "/admin", Granted, Outcome{Deny, WhyRule, Place{"no-put", "", 1}}},
	} {
		r := call(tc.method, tc.path)
		r.External, r.Provider = tc.answer, "opa"
		if diff := cmp.Diff(tc.want, set.DecideRequest(from(""), r).Outcome); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tc, diff)
		}
	}
	r := call("GET", "/admin")
	r.External, r.Provider = Granted, "another"
	if got := set.DecideRequest(from(""), r).Verdict; got != Ask {
		t.Errorf("what another authorizer allows: got %v, want ask", got)
	}
}

func TestRehearsal(t *testing.T) {
	p := mayCharge
	p.Rehearse = true
	set := compile(t, Options{Default: ModeAllUnauthenticated}, p)
	got := set.DecideRequest(from("shop/vote"), call("POST", "/charge"))
	want := Decision{Outcome: Outcome{Allow, WhyDefault, Place{}}, Rehearsed: true, Rehearsal: Outcome{Deny, WhyUnmatched, Place{}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestAudits(t *testing.T) {
	get := Rule{Name: "get", To: []Operation{{Methods: exact("GET")}, {Paths: exact("/")}}}
	set := compile(t, Options{}, policy("a", ActionAudit, Rule{From: []Source{web}}, get), policy("b", ActionAudit, get))
	c, r := from("shop/vote"), call("GET", "/")
	var got []Place
	set.Audits(c, r, func(p Place) bool { got = append(got, p); return true })
	want := []Place{{"a", "get", 2}, {"b", "get", 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if d := set.DecideRequest(c, r); d.Verdict != Deny || d.Audit != want[0] {
		t.Errorf("got %+v, want it denied and audited by %v", d, want[0])
	}
}

// Each group's policies ask their own authorizer: what one has allowed is nothing to another.
func TestTwoAuthorizers(t *testing.T) {
	ask := func(name string) Group {
		return Group{
			Name: name, Default: ModeAllUnauthenticated,
			Policies: []Policy{{Name: "of-" + name, Action: ActionExternal, Provider: name, Rules: []Rule{{}}}},
		}
	}
	b := ask("b")
	b.Ports = []PortRange{Port(80)}
	w, problems := CompileWorkload(&Spec{Groups: []Group{ask("a"), b}, Authorizers: []Authorizer{{Name: "a"}}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	c := from("")
	c.Port = 80
	if !w.Asks(80) || !w.Asks(81) || w.Authorizer("a") == nil || w.Authorizer("b") != nil {
		t.Errorf("asks at 80: %v, at 81: %v; a is %v, b %v", w.Asks(80), w.Asks(81), w.Authorizer("a"), w.Authorizer("b"))
	}
	r := call("GET", "/")
	if d := w.DecideRequest(c, r); d.Verdict != Ask || d.Provider != "a" {
		t.Errorf("got %v of %q, want ask of a", d.Verdict, d.Provider)
	}
	r.External, r.Provider = Granted, "a"
	if d := w.DecideRequest(c, r); d.Verdict != Ask || d.Provider != "b" {
		t.Errorf("when a has allowed it: got %v of %q, want ask of b", d.Verdict, d.Provider)
	}
	if c.Port = 81; w.DecideRequest(c, r).Verdict != Allow {
		t.Error("at a port that only a is asked about, what a allows is not allowed")
	}
}
