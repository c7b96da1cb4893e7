package destination

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// fields are the header fields of a request.
type fields map[string][]string

func (f fields) Next(name string, from int) (string, int, bool) {
	if from >= len(f[name]) {
		return "", from, false
	}
	return f[name][from], from + 1, true
}

// Alike implements authz.Fields.
func (fields) Alike(string, int) (string, int, bool) { return "", 0, false }

func limited(tb testing.TB, of ...authz.Limit) (*Directory, *mesh.Workload) {
	w := &mesh.Workload{UID: "api", Name: "api", Node: "node-1", Limited: true}
	for i := range of {
		of[i].Policy, of[i].Number = "RateLimitPolicy.policy.underlane.io shop/p", i+1
	}
	rules, problems := authz.CompileWorkload(&authz.Spec{TrustDomain: "td", Limits: of})
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

func isLimited(err error) bool {
	var e *mesh.ReasonError
	return errors.As(err, &e) && e.Reason == mesh.ReasonRateLimited
}

func hourly(n uint32) authz.Limit { return authz.Limit{Requests: n, Burst: n, Per: time.Hour} }

// TestLimits: what is over a limit is refused with the limit's name, each value by itself, and
// has counted for no other limit.
func TestLimits(t *testing.T) {
	user, all := hourly(2), hourly(5)
	user.Name, user.By = "user", []authz.Distinct{{Kind: authz.DistinctHeader, Name: "x-user"}}
	user.Where = authz.Rule{To: []authz.Operation{{Paths: []authz.Match{{Kind: authz.Prefix, Value: "/api/"}}}}}
	d, w := limited(t, all, user)
	client := &tap.Peer{Identity: account("web")}
	var a endpoints.Attempt
	try := func(path string, f fields, probe bool) error {
		r := &asked{Method: "GET", Path: path, Fields: f}
		return d.authorize(&a, w, 80, client, probe, r, &Query{Asked: r})
	}
	alice, bob := fields{"x-user": {"alice"}}, fields{"x-user": {"bob"}}
	for i, step := range []struct {
		path    string
		f       fields
		refused string // the limit
	}{
		{"/api/x", alice, ""},
		{"/api/y", alice, ""},
		{"/api/x", alice, "user"},
		{"//api/x", alice, "user"}, // another spelling
		{"/api/x", bob, ""},
		{"/free", alice, ""},
		{"/api/x", bob, ""},
		{"/free", nil, "1"},
		{"/api/x", fields{}, "1"},
	} {
		err := try(step.path, step.f, false)
		if step.refused == "" {
			if err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
			continue
		}
		if err == nil || !isLimited(err) {
			t.Fatalf("step %d: got %v, want it refused", i, err)
		}
		if f := a.Judged.Finding; f.Rule != step.refused || f.Why != authz.WhyLimit || !f.Denied {
			t.Errorf("step %d: got %+v, want the limit %s", i, f, step.refused)
		}
	}
	if err := try("/free", nil, true); err != nil {
		t.Errorf("a probe: %v", err)
	}
	if err := d.authorize(&a, w, 80, client, false, nil, &Query{Opaque: true}); err != nil {
		t.Errorf("an opaque connection: %v", err)
	}
	d.Forget()
	if try("/free", nil, false) == nil {
		t.Error("the limit begins anew after Forget")
	}
}

// TestLimitsBy: what each part of a request distinguishes.
func TestLimitsBy(t *testing.T) {
	for name, tc := range map[string]struct {
		by   authz.Distinct
		want int // requests of the 8 below that pass
	}{
		"all":       {authz.Distinct{Kind: authz.DistinctUnknown}, 1},
		"identity":  {authz.Distinct{Kind: authz.DistinctIdentity}, 3},
		"namespace": {authz.Distinct{Kind: authz.DistinctNamespace}, 2},
		"header":    {authz.Distinct{Kind: authz.DistinctHeader, Name: "h"}, 4},
		"path":      {authz.Distinct{Kind: authz.DistinctPath}, 2},
		"claim":     {authz.Distinct{Kind: authz.DistinctClaim, Claim: []string{"sub"}}, 3},
	} {
		l := hourly(1)
		l.By = []authz.Distinct{tc.by}
		d, w := limited(t, l)
		got := 0
		for _, id := range []mesh.Identity{account("web"), account("job"), {}} {
			for i, r := range []*asked{
				{Path: "/a?x=1", Fields: fields{"h": {"1"}}, Claims: claims{"sub": {"me"}}},
				{Path: "/a", Fields: fields{"h": {"1", "2"}}, Claims: claims{"sub": {"you"}}},
				{Path: "/b/../a", Fields: fields{"h": {"2"}}, Claims: claims{}},
				{Path: "/b"},
			} {
				var a endpoints.Attempt
				if d.authorize(&a, w, 80, &tap.Peer{Identity: id}, false, r, &Query{Asked: r}) == nil {
					got++
				} else if !isLimited(d.authorize(&a, w, 80, &tap.Peer{Identity: id}, false, r, &Query{Asked: r})) {
					t.Errorf("%s, request %d: another reason", name, i)
				}
			}
		}
		if got != tc.want {
			t.Errorf("%s: %d passed, want %d", name, got, tc.want)
		}
	}
}

type claims map[string][]string

func (c claims) Value(path []string, i int) (string, bool) {
	if i >= len(c[path[0]]) {
		return "", false
	}
	return c[path[0]][i], true
}

func (c claims) Object() map[string]any {
	out := map[string]any{}
	for name, values := range c {
		out[name] = values
	}
	return out
}

// TestLimitsAllocations: a request with a value that is known allocates nothing, let in or refused
// by the first limit.
func TestLimitsAllocations(t *testing.T) {
	d, w, client, r := limitCall(t, 1)
	var a endpoints.Attempt
	q := &Query{Asked: r}
	if err := d.authorize(&a, w, 80, client, false, r, q); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() { _ = d.authorize(&a, w, 80, client, false, r, q) }); n > allocSlack {
		t.Errorf("%v allocations, want at most %d", n, allocSlack)
	}
}

func limitCall(tb testing.TB, n int) (*Directory, *mesh.Workload, *tap.Peer, *asked) {
	var all []authz.Limit
	for i := range n {
		l := authz.Limit{Name: fmt.Sprint("l", i), Requests: 1e9, Burst: 1e9, Per: time.Second, Nodes: 2, By: []authz.Distinct{{Kind: authz.DistinctIdentity}, {Kind: authz.DistinctHeader, Name: "x-user"}}}
		l.Where = authz.Rule{To: []authz.Operation{{Paths: []authz.Match{{Kind: authz.Prefix, Value: "/api/"}}}}}
		all = append(all, l)
	}
	d, w := limited(tb, all...)
	return d, w, &tap.Peer{Identity: account("web")}, &asked{Method: "GET", Path: "/api/x", Fields: fields{"x-user": {"alice"}}}
}

// BenchmarkLimits is what the limits of a pod cost a request, with n of them that are about it.
func BenchmarkLimits(b *testing.B) {
	for _, n := range []int{0, 1, 8} {
		b.Run(fmt.Sprint("limits=", n), func(b *testing.B) {
			d, w, client, r := limitCall(b, n)
			var a endpoints.Attempt
			q := &Query{Asked: r}
			b.ReportAllocs()
			for b.Loop() {
				if err := d.authorize(&a, w, 80, client, false, r, q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
