package agentapi

import (
	"encoding/json"
	"testing"

	"github.com/underlane/underlane/pkg/controller/ownpolicy"
	"github.com/underlane/underlane/pkg/controller/policyobject"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/state"
)

// TestDumpHasExpressions: a dump of an agent with conditions in CEL is read, and they are
// evaluated as the agent does.
func TestDumpHasExpressions(t *testing.T) {
	spec := func(expression string) *authz.Spec {
		policy := ownpolicy.ReadSpec(policyobject.Meta{Group: "policy.underlane.io", Kind: "AuthorizationPolicy", Namespace: "n", Name: "p"}, []byte(`{"spec":{
			"targetRefs":[{"group":"","kind":"Pod","selector":{}}],"action":"ALLOW","enforcementLevel":"Application",
			"rules":[{"name":"r","authorization":{"type":"CEL","cel":{"expression":"`+expression+`"}}}]}}`), "td")
		if len(policy.Problems) > 0 {
			t.Fatal(policy.Problems)
		}
		return &authz.Spec{TrustDomain: "td", Groups: []authz.Group{{Name: "g", Policies: []authz.Policy{policy.Authz}}}}
	}
	text, err := json.Marshal(map[string]any{"state": state.Dump{Authz: map[string]*authz.Spec{
		"get": spec("request.method == 'GET'"), "post": spec("request.method == 'POST'"),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	dump, err := readDump(text)
	if err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[string]authz.Verdict{"get": authz.Allow, "post": authz.Deny} {
		rules, problems := authz.CompileWorkload(dump.Authz[uid])
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if d := rules.DecideRequest(&authz.Connection{}, &authz.Request{Method: "GET", Path: "/"}); d.Verdict != want || d.Failed.Text != "" {
			t.Errorf("%s: GET is decided %v (%v), want %v", uid, d.Verdict, d.Failed, want)
		}
	}
}
