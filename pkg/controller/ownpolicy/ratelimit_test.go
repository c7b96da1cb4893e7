package ownpolicy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/underlane/underlane/api/policy/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/policyobject"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// TestRateLimits: how a policy is translated, and that what is not understood limits more and
// is said.
func TestRateLimits(t *testing.T) {
	const target = `targetRefs: [{group: "", kind: Pod, selector: {matchLabels: {app: api}}}], `
	per := func(n uint32, per time.Duration) authz.Limit {
		return authz.Limit{Number: 1, Requests: n, Burst: n, Per: per, Nodes: 1}
	}
	with := func(l authz.Limit, edit func(*authz.Limit)) authz.Limit { edit(&l); return l }
	paths := authz.Rule{To: []authz.Operation{{Paths: []authz.Match{{Value: "/x"}}}}}
	none := authz.Limit{Number: 1, Nodes: 1}
	for name, tc := range map[string]struct {
		spec    string
		want    authz.Limit
		problem string
		others  bool // it is about other pods, too
	}{
		"the least": {spec: target + "limits: [{requests: 5}]", want: per(5, time.Second)},
		"a node":    {spec: target + "scope: Node, limits: [{requests: 5, per: 1m}]", want: with(per(5, time.Minute), func(l *authz.Limit) { l.Nodes = 0 })},
		"a burst":   {spec: target + "limits: [{name: few, requests: 5, burst: 2}]", want: with(per(5, time.Second), func(l *authz.Limit) { l.Name, l.Burst = "few", 2 })},
		"everything": {
			spec: target + `limits: [{requests: 5, by: [{type: Identity}, {type: Namespace}, {type: Path}, {type: Header, header: X-User}, {type: Claim, claim: [a, b]}],
				where: {authorization: {type: Inline, paths: [{type: Exact, value: /x}]}}}]`,
			want: with(per(5, time.Second), func(l *authz.Limit) {
				l.Where = paths
				l.By = []authz.Distinct{
					{Kind: authz.DistinctIdentity},
					{Kind: authz.DistinctNamespace},
					{Kind: authz.DistinctPath},
					{Kind: authz.DistinctHeader, Name: "x-user"},
					{Kind: authz.DistinctClaim, Claim: []string{"a", "b"}},
				}
			}),
		},

		"no target":            {spec: "limits: [{requests: 5}]", want: per(5, time.Second), problem: "spec.targetRefs", others: true},
		"another target":       {spec: "targetRefs: [{group: \"\", kind: Service, name: a}], limits: [{requests: 5}]", want: per(5, time.Second), problem: "Service", others: true},
		"another scope":        {spec: target + "scope: Zone, limits: [{requests: 5}]", want: per(5, time.Second), problem: "Zone"},
		"no limits":            {spec: target, want: none, problem: "no request is let in"},
		"no number":            {spec: target + "limits: [{per: 1s}]", want: none, problem: "requests: 0"},
		"a wrong time":         {spec: target + "limits: [{requests: 5, per: soon}]", want: none, problem: "soon"},
		"a wrong burst":        {spec: target + "limits: [{requests: 5, burst: 0}]", want: none, problem: "burst: 0"},
		"a wrong type":         {spec: target + "limits: [{requests: many}]", want: none, problem: "requests", others: true},
		"a field of limits":    {spec: target + "limits: [{requests: 5, mode: Audit, where: {authorization: {type: Inline, paths: [{type: Exact, value: /x}]}}}]", want: per(5, time.Second), problem: "mode"},
		"a field of the spec":  {spec: target + "from: x, limits: [{requests: 5, where: {authorization: {type: Inline, paths: [{type: Exact, value: /x}]}}}]", want: per(5, time.Second), problem: "spec.from"},
		"a field of where":     {spec: target + "limits: [{requests: 5, where: {day: x, authorization: {type: Inline, paths: [{type: Exact, value: /x}]}}}]", want: with(per(5, time.Second), func(l *authz.Limit) { l.Where = paths; l.Where.Unknown = []string{"where.day"} }), problem: "where.day"},
		"another by":           {spec: target + "limits: [{requests: 5, by: [{type: Identity}, {type: Cookie}]}]", want: with(per(5, time.Second), func(l *authz.Limit) { l.By = []authz.Distinct{{Kind: authz.DistinctIdentity}} }), problem: "by[1]"},
		"a header without one": {spec: target + "limits: [{requests: 5, by: [{type: Header}]}]", want: per(5, time.Second), problem: "by[0]"},
		"two in one":           {spec: target + "limits: [{requests: 5, by: [{type: Header, header: a, claim: [b]}]}]", want: per(5, time.Second), problem: "by[0]"},
		"many limits":          {spec: target + "limits: [" + strings.Repeat("{requests: 5}, ", 17) + "]", want: none, problem: "more than 16"},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := yaml.YAMLToJSON([]byte("{spec: {" + tc.spec + "}}"))
			if err != nil {
				t.Fatal(err)
			}
			p := ReadRateLimits(policyobject.Meta{Group: v1alpha1.Group, Kind: v1alpha1.RateLimitKind, Namespace: "shop", Name: "p"}, text, "td")
			tc.want.Policy = "RateLimitPolicy.policy.underlane.io shop/p"
			if diff := cmp.Diff(tc.want, p.Limits[0], cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if said := fmt.Sprint(p.Problems); (tc.problem == "") != (len(p.Problems) == 0) || !strings.Contains(said, tc.problem) {
				t.Errorf("problems: got %s, want %q", said, tc.problem)
			}
			if c := p.Status("c").Conditions[0]; (c.Status == metav1.ConditionTrue) != (tc.problem == "") {
				t.Errorf("condition %+v", c)
			}
			if (&Policy{Meta: p.Meta, Pods: p.Pods}).Selects("shop", map[string]string{"app": "other"}) != tc.others {
				t.Errorf("about other pods: %v, want %v", !tc.others, tc.others)
			}
		})
	}
}
