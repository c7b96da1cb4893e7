package authz_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	. "github.com/underlane/underlane/pkg/policy/authz"
)

// bad are rules with one thing each that is not understood, by what the problem
// says of it. Without it they would match nothing of what the test sends.
var bad = map[string]Rule{
	"spec.rules[0].to[0].sni: is not known":   {Unknown: []string{"spec.rules[0].to[0].sni"}},
	"principals: a value is empty":            {From: []Source{{Principals: exact("")}}},
	"notPrincipals: regular expression":       {From: []Source{{NotPrincipals: []Match{{Regex, "("}}}}},
	"namespaces: kind of match 99":            {From: []Source{{Namespaces: []Match{{99, "a"}}}}},
	"trustDomains: a template is for paths":   {From: []Source{{TrustDomains: []Match{{Template, "/"}}}}},
	"serviceAccounts: \"\"/\"web\"":           {From: []Source{{ServiceAccounts: []ServiceAccount{{"", "web"}}}}},
	"serviceAccounts: \"a\"/\"w*\"":           {From: []Source{{ServiceAccounts: []ServiceAccount{{"a", "w*"}}}}},
	"networks: invalid Prefix":                {From: []Source{{Networks: []Network{{}}}}},
	"notNetworks: ::ffff:10.0.0.0/104":        {From: []Source{{NotNetworks: []Network{{CIDR: netip.MustParsePrefix("::ffff:10.0.0.0/104")}}}}},
	"networks: invalid Prefix is not":         {From: []Source{{Networks: []Network{{CIDR: netip.MustParsePrefix("192.0.2.0/24"), Except: []netip.Prefix{{}}}}}}},
	"authentication: kind 9":                  {From: []Source{{Authentication: 9}}},
	"ports: 9 to 1":                           {To: []Operation{{Ports: []PortRange{{9, 1}}}}},
	"ports: 0 to 0":                           {To: []Operation{{Ports: []PortRange{{}}}}},
	"hosts: host \"shop:80\"":                 {To: []Operation{{Hosts: exact("shop:80")}}},
	"methods: a value is empty":               {To: []Operation{{Methods: exact("")}}},
	"paths: path \"admin\"":                   {To: []Operation{{Paths: exact("admin")}}},
	"paths: path \"/a//b\"":                   {To: []Operation{{Paths: exact("/a//b")}}},
	"paths: path \"/a/../b\"":                 {To: []Operation{{Paths: exact("/a/../b")}}},
	"paths: path \"/a?b\": '?'":               {To: []Operation{{Paths: exact("/a?b")}}},
	"paths: path \"/é\"":                      {To: []Operation{{Paths: exact("/é")}}},
	"paths: path template \"/{x}\"":           {To: []Operation{{Paths: []Match{{Template, "/{x}"}}}}},
	"paths: path template \"/{**}/{*}\"":      {To: []Operation{{Paths: []Match{{Template, "/{**}/{*}"}}}}},
	"paths: path template \"/a{*}\"":          {To: []Operation{{Paths: []Match{{Template, "/a{*}"}}}}},
	"paths: path template \"/a%20b\"":         {To: []Operation{{Paths: []Match{{Template, "/a%20b"}}}}},
	"grpc: \"\"/\"\"":                         {To: []Operation{{GRPC: []GRPCMethod{{}}}}},
	"routes: a name is empty":                 {To: []Operation{{Routes: []string{""}}}},
	"condition: kind 0 is not known":          {When: []Condition{{}}},
	"header: \"X-Role\"":                      {When: []Condition{{Kind: ConditionHeader, Name: "X-Role", Values: exact("x")}}},
	"header: \"host\"":                        {When: []Condition{{Kind: ConditionHeader, Name: "host", Values: exact("x")}}},
	"header x-role: has no values":            {When: []Condition{{Kind: ConditionHeader, Name: "x-role"}}},
	"header x-role: regular expression \"(\"": {When: []Condition{{Kind: ConditionHeader, Name: "x-role", Values: exact("x"), NotValues: []Match{{Regex, "("}}}}},
	"claim: has no name":                      {When: []Condition{{Kind: ConditionClaim, Values: exact("x")}}},
	"expression: there is none":               {When: []Condition{{Kind: ConditionPredicate}}},
}

// TestDoubtFailsClosed: what is not understood neither lets anything through nor keeps
// a rule from denying, and is told.
func TestDoubtFailsClosed(t *testing.T) {
	for text, rule := range bad {
		for _, a := range []Action{ActionExternal, ActionDeny, ActionAllow, ActionAudit} {
			p := policy("p", a, rule)
			p.Provider = "opa"
			set, problems := Compile([]Policy{p}, Options{TrustDomain: "cluster.local", Default: ModeAllUnauthenticated})
			if len(problems) == 0 || !strings.Contains(problems[0].String(), "p: rule 1: "+text) {
				t.Errorf("problems: got %v, want one that says %q", problems, text)
			}
			want := Deny
			switch a {
			case ActionAudit:
				want = Allow
			case ActionExternal:
				want = Ask
			}
			got := set.DecideRequest(from("shop/web"), call("GET", "/"))
			if got.Verdict != want || got.Audit != (Place{}) {
				t.Errorf("%s, action %d: got %+v, want %v", text, a, got, want)
			}
		}
	}
}

func TestPoliciesFailClosed(t *testing.T) {
	any, none := []Rule{{}}, []Rule{{To: []Operation{{Methods: exact("PUT")}}}}
	unknown := []string{"spec.tier"}
	opa := Policy{Name: "first", Action: ActionExternal, Provider: "opa", Rules: none}
	for text, policies := range map[string][]Policy{
		"p: action: is not known":               {{Name: "p", Rules: none}},
		"p: action: is not known: everything":   {{Name: "p", Action: 99}},
		"p: spec.tier: is not known":            {{Name: "p", Action: ActionDeny, Rules: none, Unknown: unknown}},
		"p: spec.tier: is not":                  {{Name: "p", Action: ActionAllow, Rules: any, Unknown: unknown}},
		"p: provider: no authorizer is named":   {{Name: "p", Action: ActionExternal, Rules: any}},
		"p: provider: \"other\" beside \"opa\"": {opa, {Name: "p", Action: ActionExternal, Provider: "other", Rules: any}},
	} {
		set, problems := Compile(policies, Options{Default: ModeAllUnauthenticated})
		if len(problems) != 1 || !strings.HasPrefix(problems[0].String(), text) {
			t.Errorf("problems: got %v, want one that says %q", problems, text)
		}
		if got := set.DecideRequest(from("shop/web"), call("GET", "/")); got.Verdict != Deny {
			t.Errorf("%s: got %+v, want it denied", text, got)
		}
	}
	for text, o := range map[string]Options{
		"default mode: Mode(99) is not known": {Default: 99},
		"default mode: cluster-unauthenticated admits no client: the networks of the cluster are not known": {Default: ModeClusterUnauthenticated},
	} {
		set, problems := Compile(nil, o)
		if len(problems) != 1 || problems[0].String() != text {
			t.Errorf("problems: got %v, want %q", problems, text)
		}
		if got := set.DecideConnection(from("shop/web")); got.Verdict != Deny {
			t.Errorf("%s: got %+v, want it denied", text, got)
		}
	}
}

// failing is a predicate that fails, whatever else it says.
type failing bool

func (f failing) Matches(*Connection, *Request) (bool, error) {
	return bool(f), errors.New("no such key")
}

func TestPredicateThatFails(t *testing.T) {
	for _, says := range []failing{false, true} {
		rule := Rule{When: []Condition{{Kind: ConditionPredicate, Predicate: says}}}
		for _, a := range []Action{ActionDeny, ActionAllow} {
			set := compile(t, Options{Default: ModeAllUnauthenticated}, policy("p", a, rule))
			if got := set.DecideRequest(from("shop/web"), call("GET", "/")); got.Verdict != Deny {
				t.Errorf("it says %v, action %d: got %+v, want it denied", says, a, got)
			}
		}
	}
}
