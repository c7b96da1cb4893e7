package authz

import (
	"reflect"
	"slices"
)

// DecidesAs reports whether w and other decide alike about every request. The keys of tokens
// may differ: they say which tokens are good, and not what their claims allow. It may err on
// the side of false.
func (w *Workload) DecidesAs(other *Workload) bool {
	if w == nil || other == nil {
		return false
	}
	if w == other {
		return true
	}
	a, b := *w.spec, *other.spec
	a.Tokens, b.Tokens = withoutKeys(a.Tokens), withoutKeys(b.Tokens)
	a.RateLimits, b.RateLimits, a.Limits, b.Limits = nil, nil, nil, nil
	return !a.predicates() && reflect.DeepEqual(&a, &b)
}

func withoutKeys(rules []TokenRule) []TokenRule {
	out := slices.Clone(rules)
	for i := range out {
		out[i].Keys = ""
	}
	return out
}

// predicates reports whether a rule has a Predicate, which cannot be compared.
func (s *Spec) predicates() bool {
	for i := range s.Groups {
		for _, p := range s.Groups[i].Policies {
			for _, r := range p.Rules {
				if slices.ContainsFunc(r.When, func(c Condition) bool { return c.Kind == ConditionPredicate }) {
					return true
				}
			}
		}
	}
	return false
}

// Issues reports whether tokens of an issuer may be good for the workload.
func (w *Workload) Issues(issuer string) bool {
	return slices.ContainsFunc(w.Tokens(), func(r TokenRule) bool { return r.Issuer == issuer })
}
