package policyobject

import (
	"fmt"
	"strings"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/policy/authz"
)

// Bounds of a condition's message: what a policy says may be long, and is quoted.
const (
	maxProblems = 10
	maxProblem  = 256 // bytes
)

// Accepted returns the condition Accepted of a policy: true if there is no problem,
// otherwise false with the reason Invalid and the problems in words. A policy that
// is not accepted is in force all the same: what is not understood fails closed. The
// caller sets LastTransitionTime.
func Accepted(generation int64, problems []authz.Problem) metav1.Condition {
	c := metav1.Condition{
		Type: string(gatewayv1.PolicyConditionAccepted), Status: metav1.ConditionTrue,
		ObservedGeneration: generation, Reason: string(gatewayv1.PolicyReasonAccepted),
	}
	if len(problems) == 0 {
		return c
	}
	c.Status, c.Reason = metav1.ConditionFalse, string(gatewayv1.PolicyReasonInvalid)
	var lines []string
	for i, p := range problems {
		if i == maxProblems {
			lines = append(lines, fmt.Sprintf("and %d more", len(problems)-i))
			break
		}
		p.Policy = ""
		lines = append(lines, short(text(p)))
	}
	c.Message = strings.Join(lines, "; ")
	return c
}

func text(p authz.Problem) string {
	if p.Rule > 0 {
		return fmt.Sprintf("rule %d: %s: %s", p.Rule, p.Field, p.Text)
	}
	return fmt.Sprintf("%s: %s", p.Field, p.Text)
}

// short cuts a text at a whole character, and makes it valid UTF-8.
func short(s string) string {
	cut := len(s) > maxProblem
	if cut {
		s = s[:maxProblem]
		for len(s) > 0 && !utf8.RuneStart(s[len(s)-1]) {
			s = s[:len(s)-1]
		}
	}
	s = strings.ToValidUTF8(s, "�")
	if cut {
		s += "…"
	}
	return s
}

// Shorten cuts the texts of problems, so that they can be kept: they quote values of any
// length.
func Shorten(problems []authz.Problem) []authz.Problem {
	for i := range problems {
		problems[i].Field, problems[i].Text = short(problems[i].Field), short(problems[i].Text)
	}
	return problems
}
