package rehearse

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/tap"
)

var pay = Target{"shop", "deployment", "pay"}

// parse reads calls: CLIENT PORT [METHOD PATH], where the client is NAMESPACE/ACCOUNT, one of
// DOMAIN:NAMESPACE/ACCOUNT, or -.
func parse(t *testing.T, lines ...string) *Calls {
	t.Helper()
	calls := NewCalls(10_000)
	for _, line := range lines {
		f := strings.Fields(line)
		c := Call{Target: pay, Address: netip.MustParseAddr("10.1.1.1")}
		if _, err := fmt.Sscan(f[1], &c.Port); err != nil {
			t.Fatal(err)
		}
		if f[0] != "-" {
			domain, rest, ok := strings.Cut(f[0], ":")
			if !ok {
				domain, rest = "home", f[0]
			}
			ns, sa, _ := strings.Cut(rest, "/")
			c.Client = mesh.Identity{TrustDomain: domain, Namespace: ns, ServiceAccount: sa}
		}
		if len(f) > 2 {
			c.Method, c.Path = f[2], f[3]
		}
		calls.Add(c, 1)
	}
	return calls
}

// brief is a suggestion without its type and names.
func brief(t *testing.T, s Suggestion) string {
	t.Helper()
	text, err := json.Marshal(s.Policy.Spec.Rules)
	if err != nil {
		t.Fatal(err)
	}
	out := string(text)
	for _, r := range [][2]string{
		{`"type":"ServiceAccount","serviceAccount":`, ""},
		{`"type":"SPIFFE",`, ""},
		{`"type":"Inline",`, ""},
		{`"type":"Exact","value":`, ""},
		{`"type":"PathPrefix","value":`, "*"},
		{`"networkAttributes":`, ""},
		{`"authorization":`, ""},
		{`"`, ""},
	} {
		out = strings.ReplaceAll(out, r[0], r[1])
	}
	return string(s.Policy.Spec.EnforcementLevel) + " " + out
}

func TestSuggest(t *testing.T) {
	var many []string
	for i := range 30 {
		many = append(many, fmt.Sprintf("shop/web 80 GET /cart/%d/items", i), fmt.Sprintf("shop/web 80 GET /user/%d", i))
	}
	for name, tc := range map[string]struct {
		calls    []string
		requests bool
		want     string
		notes    int
	}{
		"a connection":             {[]string{"shop/web 80"}, true, "Network [{sources:[{{name:web}}],{ports:[80]}}]", 0},
		"of another namespace":     {[]string{"x/web 80"}, true, "Network [{sources:[{{namespace:x,name:web}}],{ports:[80]}}]", 0},
		"of another domain":        {[]string{"away:x/web 80"}, true, "Network [{sources:[{spiffe:spiffe://away/ns/x/sa/web}],{ports:[80]}}]", 0},
		"two clients, one port":    {[]string{"shop/web 80", "shop/api 80"}, true, "Network [{sources:[{{name:api}},{{name:web}}],{ports:[80]}}]", 0},
		"one client, two ports":    {[]string{"shop/web 80", "shop/web 81"}, true, "Network [{sources:[{{name:web}}],{ports:[80,81]}}]", 0},
		"two of each":              {[]string{"shop/web 80", "shop/web 81", "shop/api 80", "shop/api 81"}, true, "Network [{sources:[{{name:api}},{{name:web}}],{ports:[80,81]}}]", 0},
		"not all of each":          {[]string{"shop/web 80", "shop/web 81", "shop/api 80"}, true, "Network [{sources:[{{name:api}},{{name:web}}],{ports:[80]}},{sources:[{{name:web}}],{ports:[81]}}]", 0},
		"requests":                 {[]string{"shop/web 80 GET /a", "shop/web 80 GET /b"}, true, "Application [{sources:[{{name:web}}],{ports:[80]},{methods:[GET],paths:[{/a},{/b}]}}]", 0},
		"requests, not asked for":  {[]string{"shop/web 80 GET /a", "shop/web 80 GET /b"}, false, "Network [{sources:[{{name:web}}],{ports:[80]}}]", 0},
		"methods with equal paths": {[]string{"shop/web 80 GET /a", "shop/web 80 POST /a"}, true, "Application [{sources:[{{name:web}}],{ports:[80]},{methods:[GET,POST],paths:[{/a}]}}]", 0},
		"methods with other paths": {[]string{"shop/web 80 GET /a", "shop/web 80 POST /b"}, true, "Application [{sources:[{{name:web}}],{ports:[80]},{methods:[GET],paths:[{/a}]}},{sources:[{{name:web}}],{ports:[80]},{methods:[POST],paths:[{/b}]}}]", 0},
		"bytes beside requests":    {[]string{"shop/web 80 GET /a", "shop/web 80"}, true, "Network [{sources:[{{name:web}}],{ports:[80]}}]", 0},
		"another method":           {[]string{"shop/web 80 PURGE /a"}, true, "Network [{sources:[{{name:web}}],{ports:[80]}}]", 1},
		"a path with dots":         {[]string{"shop/web 80 GET /a/../b"}, true, "Network [{sources:[{{name:web}}],{ports:[80]}}]", 1},
		"an encoded path":          {[]string{"shop/web 80 GET /a%20b"}, true, "Application [{sources:[{{name:web}}],{ports:[80]},{methods:[GET],paths:[{/a%20b}]}}]", 0},
		"without an identity":      {[]string{"- 80 GET /a", "shop/web 80 GET /a", "shop/web 80 GET /b"}, true, "Application [{{ports:[80]},{methods:[GET],paths:[{/a}]}},{sources:[{{name:web}}],{ports:[80]},{methods:[GET],paths:[{/b}]}}]", 1},
		"without a port":           {[]string{"shop/web 0", "shop/web 80"}, true, "Network [{sources:[{{name:web}}]}]", 1},
		"many paths":               {many, true, "Application [{sources:[{{name:web}}],{ports:[80]},{methods:[GET],paths:[{*/cart},{*/user}]}}]", 1},
		"many paths at the root":   {append(many, "shop/web 80 GET /a", "shop/web 80 GET /b", "shop/web 80 GET /c", "shop/web 80 GET /d", "shop/web 80 GET /e", "shop/web 80 GET /f", "shop/web 80 GET /g", "shop/web 80 GET /h", "shop/web 80 GET /i"), true, "Application [{sources:[{{name:web}}],{ports:[80]},{methods:[GET],paths:[{*/}]}}]", 1},
	} {
		got := Suggest(parse(t, tc.calls...), Options{TrustDomain: "home", Requests: tc.requests})
		if len(got) != 1 || got[0].Target != pay || got[0].Policy.Namespace != "shop" {
			t.Errorf("%s: got %+v, want one policy", name, got)
			continue
		}
		text := brief(t, got[0])
		if diff := cmp.Diff(tc.want, text); diff != "" || len(got[0].Notes) != tc.notes {
			t.Errorf("%s: got the notes %q, want %d (-want +got):\n%s", name, got[0].Notes, tc.notes, diff)
		}
	}
}

// TestSuggestMany: what an API server would not accept is not suggested, or said.
func TestSuggestMany(t *testing.T) {
	var clients, different []string
	for i := range 100 {
		clients = append(clients, fmt.Sprintf("shop/c%d 80 GET /a", i))
		different = append(different, fmt.Sprintf("shop/c%d 80 GET /c%d", i, i))
	}
	got := Suggest(parse(t, clients...), Options{TrustDomain: "home", Requests: true})[0]
	if n := len(got.Policy.Spec.Rules); n != 2 || len(got.Policy.Spec.Rules[0].Sources) != 64 || len(got.Notes) != 0 {
		t.Errorf("100 clients: got %d rules with the notes %q, want 2, the first with 64 sources", n, got.Notes)
	}
	got = Suggest(parse(t, different...), Options{TrustDomain: "home", Requests: true})[0]
	if n := len(got.Policy.Spec.Rules); n != 2 || len(got.Notes) != 1 || got.Policy.Spec.Rules[0].Authorization != nil {
		t.Errorf("100 clients with a path each: got %d rules with the notes %q, want 2 for whole ports", n, got.Notes)
	}
}

func TestBegin(t *testing.T) {
	for path, want := range map[string]string{"/": "/ / /", "/a": "/ /a /a", "/a/b": "/ /a /a/b", "/a/b/c": "/ /a /a/b", "/a/": "/ /a /a/"} {
		if got := begin(path, 0) + " " + begin(path, 1) + " " + begin(path, 2); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

func compile(t *testing.T, o authz.Options, policies ...authz.Policy) func(Target, uint16) Decider {
	t.Helper()
	set, problems := authz.Compile(policies, o)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return func(Target, uint16) Decider { return set }
}

func TestTry(t *testing.T) {
	open := compile(t, authz.Options{Default: authz.ModeAllUnauthenticated})
	web := []authz.Source{{Principals: []authz.Match{{Value: "spiffe://home/ns/shop/sa/web"}}}}
	get := []authz.Operation{{Methods: []authz.Match{{Value: "GET"}}}}
	allow := func(r authz.Rule) func(Target, uint16) Decider {
		return compile(t, authz.Options{}, authz.Policy{Name: "p", Action: authz.ActionAllow, Rules: []authz.Rule{r}})
	}
	calls := parse(t, "shop/web 80 GET /a", "shop/web 80 POST /a", "x/api 80 GET /a", "x/api 80 GET /a", "- 80")
	for name, tc := range map[string]struct {
		other                              func(Target, uint16) Decider
		allowed, denied, lost, won, unsure uint64
	}{
		"the same":      {open, 5, 0, 0, 0, 0},
		"one client":    {allow(authz.Rule{From: web}), 2, 0, 3, 0, 0},
		"one method":    {allow(authz.Rule{From: web, To: get}), 1, 0, 4, 0, 0},
		"a header":      {allow(authz.Rule{When: []authz.Condition{{Kind: authz.ConditionHeader, Name: "x", Values: []authz.Match{{Value: "y"}}}}}), 0, 0, 5, 0, 4},
		"any token":     {allow(authz.Rule{From: []authz.Source{{RequestPrincipals: []authz.Match{{Kind: authz.Present}}}}}), 0, 0, 5, 0, 4},
		"nothing known": {func(Target, uint16) Decider { return (*authz.Set)(nil) }, 0, 0, 5, 0, 0},
	} {
		r := Try(calls, open, tc.other)
		got := []uint64{r.Calls, r.Allowed, r.Denied, r.Lost(), r.Won(), r.Unsure}
		if diff := cmp.Diff([]uint64{5, tc.allowed, tc.denied, tc.lost, tc.won, tc.unsure}, got); diff != "" {
			t.Errorf("%s: calls, allowed, denied, lost, won, unsure (-want +got):\n%s", name, diff)
		}
		back := Try(calls, tc.other, open)
		if back.Won() != r.Lost() || back.Lost() != r.Won() {
			t.Errorf("%s: the other way: won %d, lost %d, want %d and %d", name, back.Won(), back.Lost(), r.Lost(), r.Won())
		}
	}
	r := Try(calls, open, allow(authz.Rule{From: web}))
	if len(r.Changes) != 2 || r.Changes[0].Count != 2 || r.Changes[0].Call.Client.Namespace != "x" || r.Changes[0].After.Why != authz.WhyUnmatched {
		t.Errorf("changes: got %+v, want the most frequent first, with what decides", r.Changes)
	}
	// An address and a port that are not recorded.
	network := allow(authz.Rule{From: []authz.Source{{Networks: []authz.Network{{CIDR: netip.MustParsePrefix("10.0.0.0/8")}}}}})
	figures := NewCalls(1)
	figures.Add(Call{Target: pay, Port: 80}, 7)
	figures.Add(Call{Target: pay, Port: 81}, 7)
	if r := Try(figures, open, network); r.Unsure != 7 || figures.Dropped != 7 {
		t.Errorf("without an address: got %d unsure and %d dropped, want 7 of each", r.Unsure, figures.Dropped)
	}
}

func TestFromEvent(t *testing.T) {
	w := &mesh.Workload{Namespace: "shop", OwnerKind: "deployment", OwnerName: "pay"}
	id := mesh.Identity{TrustDomain: "home", Namespace: "shop", ServiceAccount: "web"}
	e := tap.Event{
		Kind: tap.ResponseEnd, Direction: mesh.Inbound, Method: "GET", Authority: "pay:80", Path: "/a?secret=x",
		Source:      tap.Peer{Addr: netip.MustParseAddrPort("[::ffff:10.1.1.1]:4000"), Identity: id},
		Destination: tap.Peer{Addr: netip.MustParseAddrPort("10.1.1.2:8080"), Workload: w},
	}
	want := Call{Target: pay, Client: id, Address: netip.MustParseAddr("10.1.1.1"), Port: 8080, Method: "GET", Host: "pay:80", Path: "/a"}
	if got, ok := FromEvent(&e); !ok || got != want {
		t.Errorf("request: got %+v, %v, want %+v", got, ok, want)
	}
	e.Kind = tap.ConnClose
	want.Method, want.Host, want.Path = "", "", ""
	if got, ok := FromEvent(&e); !ok || got != want {
		t.Errorf("connection: got %+v, %v, want %+v", got, ok, want)
	}
	for _, change := range []func(*tap.Event){
		func(e *tap.Event) { e.Direction = mesh.Outbound }, func(e *tap.Event) { e.Kind = tap.RequestInit }, func(e *tap.Event) { e.Destination.Workload = nil },
	} {
		other := e
		change(&other)
		if got, ok := FromEvent(&other); ok {
			t.Errorf("%+v is a call: %+v", other, got)
		}
	}
	if e.Reason = mesh.ReasonPolicyDenied; !Denied(&e) {
		t.Error("a call that the policy denied is not denied")
	}
}

func TestFromFigures(t *testing.T) {
	f := &tapv1alpha1.Figures{
		Resources: []tapv1alpha1.Resource{
			{Kind: "deployment", Namespace: "shop", Name: "web", Identity: "spiffe://home/ns/shop/sa/web"},
			{Kind: "deployment", Namespace: "shop", Name: "pay"},
			{Kind: "service", Namespace: "shop", Name: "pay"},
			{Kind: "external"},
		},
		Edges: []tapv1alpha1.Edge{
			{Source: 0, Destination: 1, Secured: tap.TLSTrue, Total: &tapv1alpha1.Sums{Requests: 3}},
			{Source: 3, Destination: 1, Secured: tap.TLSNoIdentity},
			{Source: 0, Destination: 2},
			{Source: 0, Destination: 9},
			{Source: -1, Destination: 1},
		},
	}
	calls := NewCalls(10)
	FromFigures(f, calls.Add)
	want := map[Call]uint64{
		{Target: pay, Client: mesh.Identity{TrustDomain: "home", Namespace: "shop", ServiceAccount: "web"}}: 3,
		{Target: pay}: 1,
	}
	if diff := cmp.Diff(want, calls.Counts, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}
