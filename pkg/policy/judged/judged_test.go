package judged

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

func pod(name string, meshed bool) *mesh.Workload {
	return &mesh.Workload{
		UID: name, Namespace: "shop", Name: name, Node: "n1", OwnerKind: "pod", OwnerName: name, Meshed: meshed, Authorized: meshed,
		Addrs:    []netip.Addr{netip.MustParseAddr("10.0.0.1")},
		Identity: mesh.Identity{TrustDomain: "td", Namespace: "shop", ServiceAccount: name},
	}
}

// isAlice is an expression about a claim.
type isAlice struct{}

func (isAlice) Matches(_ *authz.Connection, r *authz.Request) (bool, error) {
	if r.Claims == nil {
		return false, errors.New("no token")
	}
	return r.Claims.Object()["sub"] == "alice", nil
}

// TestExplain: the answer names the pods, the identity and what decided.
func TestExplain(t *testing.T) {
	api, web, old := pod("api", true), pod("web", true), pod("old", false)
	rules, _ := authz.CompileWorkload(&authz.Spec{TrustDomain: "td", Groups: []authz.Group{{
		Name: "Server.policy.linkerd.io shop/api",
		Policies: []authz.Policy{{Name: "AuthorizationPolicy.policy.underlane.io shop/charge", Action: authz.ActionAllow, Rules: []authz.Rule{{
			From: []authz.Source{{ServiceAccounts: []authz.ServiceAccount{{Namespace: "shop", Name: "web"}}}},
			To:   []authz.Operation{{Methods: []authz.Match{{Value: "POST"}}}},
		}, {
			To:   []authz.Operation{{Methods: []authz.Match{{Value: "PUT"}}}},
			When: []authz.Condition{{Kind: authz.ConditionPredicate, Predicate: isAlice{}}},
		}}}},
	}}})
	m := &Mesh{
		Workloads: []*mesh.Workload{api, web, old},
		Services: []*mesh.Service{{Namespace: "shop", Name: "api", Ports: []mesh.ServicePort{{Port: 80, Endpoints: []mesh.Endpoint{
			{Addr: netip.MustParseAddrPort("10.0.0.1:8080"), Workload: api, WorkloadUID: "api"},
		}}}}},
		Decide: func(w *mesh.Workload, r *agentv1.DecideRequest) (*agentv1.DecideResponse, string, error) {
			return Decide(w, rules, r), "the agent", nil
		},
	}
	for name, tc := range map[string]struct {
		q       tapv1alpha1.AuthzExplainQuery
		allowed bool
		want    string // in the conclusion, or the error
	}{
		"allowed":                 {tapv1alpha1.AuthzExplainQuery{From: "pod/web", To: "pod/api", Method: "POST"}, true, "allowed by AuthorizationPolicy shop/charge, rule 1"},
		"by a Service":            {tapv1alpha1.AuthzExplainQuery{From: "pod/web", To: "svc/api", Port: 80, Method: "POST"}, true, "allowed by AuthorizationPolicy shop/charge, rule 1"},
		"another method":          {tapv1alpha1.AuthzExplainQuery{From: "pod/web", To: "pod/api", Method: "GET"}, false, "denied by Server shop/api: none of its policies allows it"},
		"with a claim":            {tapv1alpha1.AuthzExplainQuery{To: "pod/api", Method: "PUT", Claims: `{"sub": "alice"}`}, true, "allowed by AuthorizationPolicy shop/charge, rule 2"},
		"with another claim":      {tapv1alpha1.AuthzExplainQuery{To: "pod/api", Method: "PUT", Claims: `{"sub": "bob"}`}, false, "denied by Server shop/api: none of its policies allows it"},
		"without a token":         {tapv1alpha1.AuthzExplainQuery{To: "pod/api", Method: "PUT"}, false, "; an expression could not be evaluated: AuthorizationPolicy shop/charge, rule 2: no token"},
		"no claims":               {tapv1alpha1.AuthzExplainQuery{To: "pod/api", Claims: `[]`}, false, "--claims: want an object"},
		"a connection":            {tapv1alpha1.AuthzExplainQuery{From: "pod/web", To: "pod/api"}, false, "it depends on the request"},
		"without an identity":     {tapv1alpha1.AuthzExplainQuery{To: "pod/api", Method: "POST"}, false, "denied by Server shop/api"},
		"outside the mesh":        {tapv1alpha1.AuthzExplainQuery{From: "pod/old", To: "pod/api", Method: "POST"}, false, "denied by Server shop/api"},
		"to outside the mesh":     {tapv1alpha1.AuthzExplainQuery{From: "pod/web", To: "pod/old", Port: 80}, true, "not in the mesh"},
		"an unknown server":       {tapv1alpha1.AuthzExplainQuery{To: "pod/none"}, false, "there is no pod"},
		"an unknown Service port": {tapv1alpha1.AuthzExplainQuery{To: "svc/api", Port: 81}, false, "no port 81"},
		"no port to choose":       {tapv1alpha1.AuthzExplainQuery{To: "pod/web"}, false, "--port"},
	} {
		tc.q.Namespace = "shop"
		e, err := Explain(&tc.q, m)
		text := ""
		if err != nil {
			text, e = err.Error(), &tapv1alpha1.AuthzExplanation{}
		} else {
			text = e.Conclusion
		}
		if e.Allowed != tc.allowed || !strings.Contains(text, tc.want) {
			t.Errorf("%s: allowed %v, %q; want %v, %q", name, e.Allowed, text, tc.allowed, tc.want)
		}
	}
	m.Decide = func(*mesh.Workload, *agentv1.DecideRequest) (*agentv1.DecideResponse, string, error) {
		return nil, "", errors.New("no agent")
	}
	if _, err := Explain(&tapv1alpha1.AuthzExplainQuery{Namespace: "shop", To: "pod/api"}, m); err == nil {
		t.Error("without an answer: want an error")
	}
}

// TestRows: what pods of one workload have in common is one row, and a policy that decided
// nothing has one.
func TestRows(t *testing.T) {
	answer := func(name string) *agentv1.CallsResponse {
		return &agentv1.CallsResponse{
			Seconds: 60, Lost: 1,
			Pods: []*agentv1.RuledPod{{Uid: name, Namespace: "shop", Name: name, OwnerKind: "deployment", OwnerName: "api", Objects: []string{"used", "unused"}}},
			Calls: []*agentv1.JudgedCall{
				{Judged: &agentv1.Judged{Object: "used", Denied: true, Why: "unmatched"}, Port: 80, Method: "GET", Path: "/a", Calls: 2},
				{Pod: 7, Calls: 100}, // an agent that lies
			},
		}
	}
	list := List([]*agentv1.CallsResponse{answer("a"), answer("b")}, tapv1alpha1.Nodes{}, nil)
	if len(list.Items) != 2 || len(list.Warnings) != 1 || list.Seconds != 60 {
		t.Fatalf("got %+v, want two rows and a warning", list)
	}
	if r := list.Items[0]; r.Object != "unused" || r.Calls != 0 {
		t.Errorf("got %+v, want the policy that decided nothing", r)
	}
	if r := list.Items[1]; r.Object != "used" || r.Calls != 4 || r.Verdict != "denied" {
		t.Errorf("got %+v, want 4 denied calls", r)
	}
}
