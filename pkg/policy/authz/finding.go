package authz

import (
	"strconv"
	"strings"
)

// Finding is a Decision in words, for events, figures and people. It is immutable.
type Finding struct {
	Denied bool
	Why    Why
	// Object is what decided: the name of the rule's policy, or of the group whose mode
	// decided. It is "" if nothing did.
	Object string
	Rule   string // its name, or its number from 1; "": a mode decided
	// Audit is what asks to report a call that was let in; "": nothing does.
	Audit string
	// Failed is an expression that could not be evaluated, so that its rule did not allow or
	// did deny; "": there was none.
	Failed string
	// WouldDeny is what would deny a call that was let in, if the policies that are rehearsed
	// were applied; "": nothing would.
	WouldDeny string
}

// Finding returns the decision in words.
func (d *Decision) Finding() Finding {
	f := Finding{Denied: d.Verdict != Allow, Why: d.Why, Object: object(&d.Outcome, d.Group), Failed: d.Failed.String()}
	if d.Place.Policy != "" {
		f.Rule = d.Place.rule()
	}
	if f.Denied {
		return f
	}
	if f.Audit = d.Audit.Policy; f.Audit == "" && d.Why == WhyAudit {
		f.Audit = f.Object
	}
	if d.Rehearsed && d.Rehearsal.Verdict == Deny {
		f.WouldDeny = object(&d.Rehearsal, d.RehearsalGroup)
	}
	return f
}

// object returns what led to the outcome: the rule's policy, or else the group.
func object(o *Outcome, group string) string {
	if o.Place.Policy != "" {
		return o.Place.Policy
	}
	return group
}

func (p *Place) rule() string {
	if p.Rule != "" {
		return p.Rule
	}
	return strconv.Itoa(p.Number)
}

// Audited reports whether the call was let in and is to be reported.
func (f *Finding) Audited() bool { return f.Audit != "" || f.WouldDeny != "" }

// Verdict returns "denied", "audited" or "allowed".
func (f *Finding) Verdict() string {
	switch {
	case f.Denied:
		return "denied"
	case f.Audited():
		return "audited"
	}
	return "allowed"
}

// shared are the kinds that several API groups have, with the group whose objects need not name it.
var shared = map[string]string{
	"AuthorizationPolicy": "policy.underlane.io",
	"HTTPRoute":           "gateway.networking.k8s.io",
}

// ShortName returns the name of an object without its API group: "Server shop/api" for
// "Server.policy.linkerd.io shop/api". The group stays if other groups have such a kind:
// "AuthorizationPolicy.security.istio.io shop/api" is another object than "AuthorizationPolicy
// shop/api", which is Underlane's.
func ShortName(object string) string {
	full, name, ok := strings.Cut(object, " ")
	if !ok {
		return object
	}
	kind, group, _ := strings.Cut(full, ".")
	if own, is := shared[kind]; is && group != own {
		return object
	}
	return kind + " " + name
}
