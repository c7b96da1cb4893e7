package why

import (
	"fmt"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/mesh"
)

// policy says who may connect to the endpoints, and whether the client is among these.
func (x *inquiry) policy() tapv1alpha1.WhyStep {
	total, refused := 0, 0
	reason := mesh.ReasonNone
	var lines []string
	for _, t := range x.targets {
		for _, c := range t.candidates {
			total++
			switch c.reason {
			case mesh.ReasonNoIdentity, mesh.ReasonPolicyDenied, mesh.ReasonNoCertificate:
				refused++
				reason = c.reason
			}
			if w := c.ep.Workload; w != nil {
				lines = append(lines, policyLine(w, &c))
			}
		}
	}
	s := step("policy", tapv1alpha1.WhyOK, "The policy lets the client in.")
	switch {
	case total == 0:
		s = step("policy", tapv1alpha1.WhyUnknown, "There is no endpoint whose policy could decide.")
	case refused == total:
		s = step("policy", tapv1alpha1.WhyProblem, "The client is refused with %s: %s.", reason, reason.Text())
	case refused > 0:
		s = step("policy", tapv1alpha1.WhyWarning, "The client is refused by %d of %s with %s: %s.", refused, plural(total, "endpoint", "endpoints"), reason, reason.Text())
	}
	if id := x.identity(); !id.IsZero() {
		say(&s, "the client proves the identity %s", id)
	} else {
		say(&s, "the client has no identity, because its connection is not captured")
	}
	sayAll(&s, lines)
	return s
}

func policyLine(w *mesh.Workload, c *candidate) string {
	if c.server.outside {
		return podName(w) + " has no policy: the mesh does not capture what it receives"
	}
	who := "every client may connect, with an identity or without"
	if w.Settings.Policy == mesh.PolicyStrict {
		who = fmt.Sprintf("identities of the trust domain %s may connect, and processes of the pod's node", w.Identity.TrustDomain)
	}
	from := ""
	if w.OwnSettings {
		from = ", by its own annotations"
	} else if w.Settings.Policy == mesh.PolicyStrict {
		from = ", by its namespace's annotations"
	}
	line := fmt.Sprintf("the policy of %s is %s%s: %s", podName(w), w.Settings.Policy, from, who)
	if limit := w.Settings.RateLimit; limit != nil {
		line += fmt.Sprintf("; at most %d requests in %s of all clients together", limit.Count, limit.Period)
	}
	if limit := w.Settings.ClientRateLimit; limit != nil {
		line += fmt.Sprintf("; at most %d requests in %s of one client", limit.Count, limit.Period)
	}
	return line
}
