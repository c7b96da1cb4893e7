package authz

import (
	"fmt"
	"slices"
)

// Verdict is what is to be done. The zero Verdict is Deny.
type Verdict uint8

// The verdicts.
const (
	Deny Verdict = iota
	Allow
	// NeedsRequest, of DecideConnection: it depends on the requests.
	NeedsRequest
	// Ask, of DecideRequest: ask the authorizer Decision.Provider and decide again with its
	// Answer. Nothing else denies the request.
	Ask
)

// String returns the verdict's name.
func (v Verdict) String() string {
	switch v {
	case Deny:
		return "deny"
	case Allow:
		return "allow"
	case NeedsRequest:
		return "needs-request"
	case Ask:
		return "ask"
	}
	return fmt.Sprintf("Verdict(%d)", uint8(v))
}

// Why says what led to an Outcome.
type Why uint8

// The reasons of decisions.
const (
	WhyNothing   Why = iota // there is no Set, or no connection: denied
	WhyProbe                // a probe of the workload's node
	WhyRule                 // the rule that Outcome names
	WhyExternal             // the authorizer refused, where the rule that Outcome names asks it
	WhyDefault              // no policy allows anything: Options.Default
	WhyUnmatched            // none of the policies that allow matches: Options.Unmatched
	WhyAudit                // as WhyDefault or WhyUnmatched: no rule allows it, and the mode is ModeAudit
	WhyOpaque               // the rule that Outcome names needs a request, and the traffic carries none that can be read
	WhyUnruled              // no group of the Workload is about the port: allowed
	WhyUnrouted             // a group has routes, and the request belongs to none of them: denied
	WhyLimit                // the request is over the Limit that Outcome names: denied

	numWhys
)

var whyNames = [numWhys]string{
	"no-policy-known", "probe", "rule", "external", "default", "unmatched", "audit", "opaque", "unruled", "unrouted", "limit",
}

// String returns the reason's name.
func (w Why) String() string {
	if w < numWhys {
		return whyNames[w]
	}
	return fmt.Sprintf("Why(%d)", uint8(w))
}

// ParseWhy returns the reason of a name. Of one that is not known it returns WhyNothing.
func ParseWhy(name string) Why { return Why(max(0, slices.Index(whyNames[:], name))) }

// Place names a rule. The zero Place names none.
type Place struct {
	Policy string // Policy.Name
	Rule   string // Rule.Name
	Number int    // of the rule in the policy, from 1
}

// Outcome is a verdict and what led to it.
type Outcome struct {
	Verdict Verdict
	Why     Why
	Place   Place // the first rule in the order of policies that led to it, if one did
}

// Failed is a predicate that could not be evaluated: the Place of its rule, and why.
type Failed struct {
	Place
	Text string
}

// String returns it in words, "" for the zero Failed.
func (f *Failed) String() string {
	if f.Text == "" {
		return ""
	}
	return f.Policy + ", rule " + f.Place.rule() + ": " + f.Text
}

// Decision is the Outcome, and beside it what was asked to be reported.
type Decision struct {
	Outcome
	// Failed is the first predicate that was met and could not be evaluated. Its rule has
	// failed closed.
	Failed Failed
	// Audit is the first rule with ActionAudit that matches.
	Audit Place
	// Rehearsed: there are policies with Rehearse, and Rehearsal is what the
	// Outcome would be with them.
	Rehearsed bool
	Rehearsal Outcome
	// Provider is the authorizer to ask if the verdict is Ask of a Workload.
	Provider string
	// Group is the name of the Workload's group that decided; "": a Set alone, or no group.
	// For the ports without a policy it is "default" and the mode. RehearsalGroup is that
	// of the Rehearsal.
	Group, RehearsalGroup string
}

// Reported names what asks for a report of what the decision is about: a policy with
// ActionAudit, or the mode audit where nothing else allows. It is "" if nothing does.
func (d *Decision) Reported() string {
	if d.Why == WhyAudit {
		return ModeAudit.String()
	}
	return d.Audit.Policy
}

// Opaque is the decision for a connection whose bytes are not read as
// requests: what needs a request is denied.
func (d Decision) Opaque() Decision {
	d.Outcome, d.Rehearsal = d.Outcome.opaque(), d.Rehearsal.opaque()
	return d
}

func (o Outcome) opaque() Outcome {
	if o.Verdict == NeedsRequest {
		o.Verdict, o.Why = Deny, WhyOpaque
	}
	return o
}
