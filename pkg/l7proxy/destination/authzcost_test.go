package destination

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// asked is a request.
type asked authz.Request

func (a *asked) Asked() authz.Request { return authz.Request(*a) }

// policed returns a Directory with a pod that is selected by n policies, half of them of one
// language and half of another, each for another client and path.
func policed(tb testing.TB, n int) (*Directory, *mesh.Workload) {
	w := &mesh.Workload{UID: "api", Name: "api", Authorized: true}
	spec := &authz.Spec{TrustDomain: "td"}
	for language := range 2 {
		g := authz.Group{Name: fmt.Sprint(language), Default: authz.ModeAllUnauthenticated}
		for i := range n / 2 {
			g.Policies = append(g.Policies, authz.Policy{
				Name: fmt.Sprintf("AuthorizationPolicy.group ns/p-%d", i), Action: authz.ActionAllow,
				Rules: []authz.Rule{{
					From: []authz.Source{{ServiceAccounts: []authz.ServiceAccount{{Namespace: "ns", Name: fmt.Sprint("client-", i)}}}},
					To:   []authz.Operation{{Methods: []authz.Match{{Value: "GET"}}, Paths: []authz.Match{{Kind: authz.Prefix, Value: fmt.Sprintf("/v%d/", i)}}}},
				}},
			})
		}
		spec.Groups = append(spec.Groups, g)
	}
	rules, problems := authz.CompileWorkload(spec)
	if len(problems) > 0 {
		tb.Fatal(problems)
	}
	store := state.NewStore("node-1")
	err := store.Apply(state.Delta{Version: 1, Synced: true, Resources: []state.Resource{
		{Name: state.WorkloadName(w.UID), Version: "1", Workload: w},
		{Name: state.AuthzName(w.UID), Version: "1", Authz: &state.Authz{UID: w.UID, Rules: rules}},
	}})
	if err != nil {
		tb.Fatal(err)
	}
	d := newDirectory(store)
	d.Calls = calls.New(time.Now)
	return d, w
}

var policedSizes = []int{2, 100, 10_000}

// policedCall returns a request that the last of n policies of each language allows, and one
// that none allows.
func policedCall(n int) (client *tap.Peer, good, bad *asked) {
	client = &tap.Peer{
		Addr:     netip.MustParseAddrPort("10.0.0.2:1"),
		Identity: mesh.Identity{TrustDomain: "td", Namespace: "ns", ServiceAccount: fmt.Sprint("client-", n/2-1)},
	}
	return client, &asked{Method: "GET", Path: fmt.Sprintf("/v%d/items", n/2-1)}, &asked{Method: "GET", Path: "/other"}
}

// TestPolicyIsFree: a decision allocates nothing, however many policies select the pod.
func TestPolicyIsFree(t *testing.T) {
	for _, n := range policedSizes {
		d, w := policed(t, n)
		client, good, bad := policedCall(n)
		var a endpoints.Attempt
		if err := d.authorize(&a, w, 80, client, false, good, &Query{Asked: good}); err != nil {
			t.Errorf("%d policies: %v", n, err)
		}
		if d.authorize(&a, w, 80, client, false, bad, &Query{Asked: bad}) == nil {
			t.Errorf("%d policies: what none of them allows is let in", n)
		}
		if allocs := testing.AllocsPerRun(1000, func() { _ = d.authorize(&a, w, 80, client, false, good, &Query{Asked: good}) }); allocs != 0 {
			t.Errorf("%d policies: got %v allocations, want 0", n, allocs)
		}
	}
}

// BenchmarkPolicy is what the policies of a pod cost a request, with n of them.
func BenchmarkPolicy(b *testing.B) {
	for _, n := range policedSizes {
		b.Run(fmt.Sprint("policies=", n), func(b *testing.B) {
			d, w := policed(b, n)
			client, good, _ := policedCall(n)
			var a endpoints.Attempt
			b.ReportAllocs()
			for b.Loop() {
				if err := d.authorize(&a, w, 80, client, false, good, &Query{Asked: good}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestAskingIsFree: to find out that no authorizer is asked allocates nothing, for a pod with
// policies and for one without.
func TestAskingIsFree(t *testing.T) {
	d, w := policed(t, 100)
	client, good, _ := policedCall(100)
	without := *w
	without.Authorized = false
	for name, pod := range map[string]*mesh.Workload{"policies": w, "none": &without} {
		target := d.Inbound(pod, netip.MustParseAddrPort("10.0.0.1:80"), false)
		if n := testing.AllocsPerRun(100, func() {
			if target.Asks(client, good) != nil {
				t.Error("somebody is asked")
			}
		}); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
