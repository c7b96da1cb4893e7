package authz

import "testing"

// TestDecidesAs: workloads that differ by keys of tokens and by limits alone decide alike.
func TestDecidesAs(t *testing.T) {
	spec := func(change func(*Spec)) *Workload {
		s := &Spec{
			TrustDomain: "td", Tokens: []TokenRule{{Issuer: "i", Keys: "old"}},
			Groups: []Group{{Name: "g", Policies: []Policy{{Name: "p", Action: ActionAllow, Rules: []Rule{{To: []Operation{{Methods: []Match{{Value: "GET"}}}}}}}}}},
		}
		change(s)
		w, _ := CompileWorkload(s)
		return w
	}
	base := spec(func(*Spec) {})
	for name, tc := range map[string]struct {
		change func(*Spec)
		want   bool
	}{
		"nothing": {func(*Spec) {}, true},
		"keys":    {func(s *Spec) { s.Tokens[0].Keys = "new" }, true},
		"limits":  {func(s *Spec) { s.Limits = []Limit{{Name: "l", Requests: 1}} }, true},
		"issuer":  {func(s *Spec) { s.Tokens[0].Issuer = "other" }, false},
		"method":  {func(s *Spec) { s.Groups[0].Policies[0].Rules[0].To[0].Methods[0].Value = "PUT" }, false},
		"action":  {func(s *Spec) { s.Groups[0].Policies[0].Action = ActionDeny }, false},
		"a predicate": {func(s *Spec) {
			s.Groups[0].Policies[0].Rules[0].When = []Condition{{Kind: ConditionPredicate}}
		}, false},
	} {
		if got := base.DecidesAs(spec(tc.change)); got != tc.want {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
	if base.DecidesAs(nil) || (*Workload)(nil).DecidesAs(base) {
		t.Error("no policies decide as some do")
	}
}
