package authz

import (
	"fmt"
	"strings"
	"testing"
)

// elements are claims that are lists.
type elements map[string][]string

// Value implements Claims.
func (e elements) Value(path []string, i int) (string, bool) {
	list := e[path[0]]
	if i >= len(list) {
		return "", false
	}
	return list[i], true
}

// Object implements Claims.
func (e elements) Object() map[string]any { return nil }

// TestLongValuesAreInDoubt: a regular expression is not evaluated on a value that would cost
// too much. A rule that allows does not match then, one that denies does, with fields that
// negate, too. What other values of a field decide, they decide.
func TestLongValuesAreInDoubt(t *testing.T) {
	long := "/" + strings.Repeat("a", 4<<10)
	costly := Match{Kind: Regex, Value: "/(a|b|c?d?e?f?g?h?i?j?k?l?m?n?o?p?)*x?"}
	cheap := Match{Kind: Regex, Value: "/.*"}
	header := func(name, value string) Fields { return headers{name: value} }
	claims := elements{"c": {"no", long}}
	for name, tc := range map[string]struct {
		rule  Rule
		doubt bool
		match bool // without a doubt
	}{
		"path":                      {rule: Rule{To: []Operation{{Paths: []Match{costly}}}}, doubt: true},
		"no path":                   {rule: Rule{To: []Operation{{NotPaths: []Match{costly}}}}, doubt: true},
		"a cheap expression":        {rule: Rule{To: []Operation{{Paths: []Match{cheap}}}}, match: true},
		"another value is certain":  {rule: Rule{To: []Operation{{Paths: []Match{costly, {Kind: Prefix, Value: "/aa"}}}}}, match: true},
		"another negated certainty": {rule: Rule{To: []Operation{{NotPaths: []Match{costly, {Kind: Prefix, Value: "/aa"}}}}}, match: false},
		"method":                    {rule: Rule{To: []Operation{{Methods: []Match{costly}}}}, doubt: true},
		"header":                    {rule: Rule{When: []Condition{{Kind: ConditionHeader, Name: "h", Values: []Match{costly}}}}, doubt: true},
		"no header":                 {rule: Rule{When: []Condition{{Kind: ConditionHeader, Name: "h", NotValues: []Match{costly}}}}, doubt: true},
		"claim":                     {rule: Rule{When: []Condition{{Kind: ConditionClaim, Claim: []string{"c"}, Values: []Match{costly}}}}, doubt: true},
		"no claim":                  {rule: Rule{When: []Condition{{Kind: ConditionClaim, Claim: []string{"c"}, NotValues: []Match{costly}}}}, doubt: true},
		"a claim that is certain":   {rule: Rule{When: []Condition{{Kind: ConditionClaim, Claim: []string{"c"}, Values: []Match{costly, {Value: "no"}}}}}, match: true},
	} {
		for _, action := range []Action{ActionAllow, ActionDeny} {
			s, problems := Compile([]Policy{{Name: "p", Action: action, Rules: []Rule{tc.rule}}}, Options{Default: ModeAllUnauthenticated})
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			r := &Request{Method: long, Path: long, Fields: header("h", long), Claims: claims}
			got := s.DecideRequest(&Connection{Port: 80}, r).Verdict
			want := map[bool]Verdict{true: Deny, false: Allow}[tc.doubt || tc.match == (action == ActionDeny)]
			if got != want {
				t.Errorf("%s, %v: got %v, want %v", name, action, got, want)
			}
		}
	}
}

// TestExpressionsHaveABound: an expression of too many instructions is not understood.
func TestExpressionsHaveABound(t *testing.T) {
	for value, ok := range map[string]bool{"(ab?){500}": false, "/(" + strings.Repeat("name|", 100) + "x)": true} {
		_, problems := Compile([]Policy{{Name: "p", Action: ActionAllow, Rules: []Rule{{To: []Operation{{Paths: []Match{{Kind: Regex, Value: value}}}}}}}}, Options{})
		if (len(problems) == 0) != ok {
			t.Errorf("%.20s…: got %v, want it understood: %v", value, problems, ok)
		}
	}
}

// BenchmarkCostlyExpression is about the longest paths that expressions are evaluated on.
func BenchmarkCostlyExpression(b *testing.B) {
	for _, value := range []string{"/(a|b|c?d?e?f?g?h?i?j?k?l?m?n?o?p?)*x?", "/(.*a){30}x", "/([a-z]*/?)*x", "/(.{0,4}a?){60}x"} {
		b.Run(fmt.Sprintf("%.20s", value), func(b *testing.B) {
			m, err := compileMatch(Match{Kind: Regex, Value: value}, text{})
			if err != nil {
				b.Fatal(err)
			}
			path := "/" + strings.Repeat("a", m.most-1)
			b.ReportMetric(float64(m.most), "bytes")
			for b.Loop() {
				m.fits(path)
			}
		})
	}
}
