package authz_test

import (
	"fmt"
	"testing"

	. "github.com/underlane/underlane/pkg/policy/authz"
)

// many returns n policies that allow, each for another client of its own path. A
// workload that all of them select is the worst case of a cluster with n policies.
func many(n int) (out []Policy) {
	for i := range n {
		out = append(out, policy(fmt.Sprintf("AuthorizationPolicy shop/p%d", i), ActionAllow, Rule{
			From: []Source{{ServiceAccounts: []ServiceAccount{{fmt.Sprintf("n%d", i%100), fmt.Sprintf("s%d", i)}}}},
			To:   []Operation{{Methods: exact("POST"), Paths: exact(fmt.Sprintf("/charge/%d", i))}},
		}))
	}
	return out
}

// rules returns one policy with n rules for the same clients, of different paths.
func rules(n int) Policy {
	p := Policy{Name: "AuthorizationPolicy shop/rules", Action: ActionAllow}
	for i := range n {
		path := Match{Exact, fmt.Sprintf("/charge/%d", i)}
		if i%2 == 1 {
			path = Match{Prefix, fmt.Sprintf("/refund/%d/", i)}
		}
		p.Rules = append(p.Rules, Rule{From: []Source{{Namespaces: exact("shop")}}, To: []Operation{{Methods: exact("POST"), Paths: []Match{path}}}})
	}
	return p
}

func denials(n int) (out []Policy) {
	for i := range n {
		out = append(out, policy(fmt.Sprintf("deny-%d", i), ActionDeny, Rule{
			From: []Source{{Namespaces: exact(fmt.Sprintf("dev%d", i))}}, To: []Operation{{Ports: ports(8080)}},
		}))
	}
	return out
}

var benchmarks = []struct {
	name     string
	policies []Policy
	account  string
	path     string
}{
	{"policies=3", append(many(2), denials(1)...), "n1/s1", "/charge/1"},
	{"policies=10000", append(many(5000), denials(5000)...), "n99/s4999", "/charge/4999"},
	{"rules=10", []Policy{rules(10)}, "shop/web", "/refund/9/x"},
	{"rules=1000", []Policy{rules(1000)}, "shop/web", "/refund/999/x"},
	{"mixed=1000", append([]Policy{rules(1000)}, many(1000)...), "shop/web", "/charge/998"},
}

func BenchmarkDecideRequest(b *testing.B) {
	for _, bm := range benchmarks {
		b.Run(bm.name, func(b *testing.B) {
			set, problems := Compile(bm.policies, Options{TrustDomain: "cluster.local"})
			if len(problems) > 0 {
				b.Fatal(problems[0])
			}
			c, r := from(bm.account), call("POST", bm.path+"?order=1")
			b.ReportAllocs()
			for b.Loop() {
				if got := set.DecideRequest(c, r); got.Verdict != Allow {
					b.Fatalf("got %+v, want it allowed", got)
				}
			}
		})
	}
}

func BenchmarkDecideConnection(b *testing.B) {
	for _, bm := range benchmarks {
		b.Run(bm.name, func(b *testing.B) {
			set, _ := Compile(bm.policies, Options{TrustDomain: "cluster.local"})
			c := from(bm.account)
			b.ReportAllocs()
			for b.Loop() {
				if got := set.DecideConnection(c); got.Verdict != NeedsRequest {
					b.Fatalf("got %+v, want that it needs a request", got)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, bm := range benchmarks {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Compile(bm.policies, Options{TrustDomain: "cluster.local"})
			}
		})
	}
}

// TestDecideIsFree: no decision allocates, with all kinds of rules among the
// policies except regular expressions: package regexp keeps what it needs in a pool,
// which the race detector empties at random.
func TestDecideIsFree(t *testing.T) {
	all := append(many(100), rules(100))
	all = append(all, denials(100)...)
	all = append(all, policy("kinds", ActionDeny, Rule{
		From: []Source{{NotPrincipals: []Match{{Suffix, "x"}}}},
		To:   []Operation{{Hosts: []Match{{Suffix, ".EVIL"}}, NotPaths: []Match{{Template, "/{*}/x"}}}, {GRPC: []GRPCMethod{{"", "Put"}}}},
		When: []Condition{
			{Kind: ConditionHeader, Name: "x-role", NotValues: exact("user")},
			{Kind: ConditionClaim, Claim: []string{"groups"}, NotValues: exact("ops")},
		},
	}), policy("audit", ActionAudit, Rule{}))
	rehearsed := rules(10)
	rehearsed.Rehearse = true
	set := compile(t, Options{Default: ModeAudit}, append(all, rehearsed)...)
	c, r := from("shop/web"), call("POST", "/refund/99/x?y")
	r.Fields, r.Claims = &fields{{"x-role", "user"}}, claims{{"groups", "dev"}}
	for name, decide := range map[string]func(){
		"connection": func() { set.DecideConnection(c) },
		"request":    func() { set.DecideRequest(c, r) },
	} {
		if got := testing.AllocsPerRun(1000, decide); got != 0 {
			t.Errorf("%s: got %v allocations, want 0", name, got)
		}
	}
}
