package authz

import (
	"errors"
	"fmt"
	"net/netip"
)

// Options are what is decided for a workload beside its policies.
type Options struct {
	// TrustDomain is the workload's. ServiceAccount sources are of it.
	TrustDomain string
	// Cluster are the networks of the cluster, for the modes that ask for them.
	Cluster []netip.Prefix
	// Default decides if no policy allows anything.
	Default Mode
	// Unmatched decides if there are policies that allow, and none of them matches.
	Unmatched Mode
}

// Set holds the compiled policies of one workload or port. It is immutable and
// safe for concurrent use. The nil Set denies everything except probes.
type Set struct {
	tables    [numActions]table
	allows    bool // there are policies that allow
	requests  bool // a rule needs a request
	provider  string
	options   Options
	rehearsal *Set // nil: nothing is rehearsed
}

// Compile compiles the policies that apply to one workload or one of its ports. Among
// policies of the same action the first one that matches is named in decisions;
// the order does not change verdicts. The Set is valid whatever the Problems are: what
// they are about fails closed.
func Compile(policies []Policy, o Options) (*Set, []Problem) {
	var problems []Problem
	for _, m := range []struct {
		field string
		mode  *Mode
	}{{"default mode", &o.Default}, {"unmatched mode", &o.Unmatched}} {
		switch {
		case *m.mode >= numModes:
			problems = append(problems, Problem{Field: m.field, Text: fmt.Sprintf("%v is not known", *m.mode)})
			*m.mode = ModeDeny
		case (*m.mode == ModeClusterAuthenticated || *m.mode == ModeClusterUnauthenticated) && len(o.Cluster) == 0:
			problems = append(problems, Problem{Field: m.field, Text: m.mode.String() + " admits no client: the networks of the cluster are not known"})
		}
	}
	s := &Set{options: o}
	rehearsed := false
	for i := range policies {
		if policies[i].Rehearse {
			rehearsed = true
		} else {
			problems = append(problems, s.add(&policies[i], i)...)
		}
	}
	if rehearsed {
		all := &Set{options: o, provider: s.provider} // what is applied keeps its authorizer
		for i := range policies {
			if p := all.add(&policies[i], i); policies[i].Rehearse {
				problems = append(problems, p...)
			}
		}
		all.finish()
		s.rehearsal = all
	}
	s.finish()
	return s, problems
}

// Provider is the authorizer that Ask is about, or "".
func (s *Set) Provider() string {
	if s == nil {
		return ""
	}
	return s.provider
}

// add compiles a policy, number i of those that were given.
func (s *Set) add(p *Policy, i int) []Problem {
	k := compiler{policy: p.Name, options: &s.options}
	action := p.Action
	rules := p.Rules
	switch {
	case action == ActionUnknown || action >= numActions:
		// It may be one that refuses what it does not match.
		k.problem("action", errors.New("is not known: everything is denied"))
		action, rules = ActionDeny, []Rule{{}}
	case action == ActionExternal && p.Provider == "":
		k.problem("provider", errors.New("no authorizer is named: what the rules match is denied"))
		action = ActionDeny
	case action == ActionExternal && s.provider != "" && s.provider != p.Provider:
		k.problem("provider", fmt.Errorf("%q beside %q: a workload has one authorizer; what the rules match is denied", p.Provider, s.provider))
		action = ActionDeny
	case action == ActionExternal:
		s.provider = p.Provider
	}
	s.allows = s.allows || action == ActionAllow
	k.wide = action.wide()
	for _, name := range p.Unknown {
		k.unknown(name)
	}
	if len(p.Unknown) > 0 && k.wide {
		rules = []Rule{{}}
	}
	dead := len(p.Unknown) > 0 && !k.wide
	for n := range rules {
		k.rule = n + 1
		clauses := k.clauses(&rules[n])
		if dead || k.dead {
			continue
		}
		for i := range clauses {
			s.requests = s.requests || clauses[i].request || action == ActionExternal
		}
		place := Place{Policy: p.Name, Rule: rules[n].Name, Number: n + 1}
		s.tables[action].add(clauses, place, order{i, n + 1})
	}
	return k.problems
}

// compiler compiles the rules of one policy.
type compiler struct {
	policy   string
	rule     int
	wide     bool // a field that is not understood is left out; without it, its rule is dead
	dead     bool
	options  *Options
	problems []Problem
}

func (k *compiler) problem(field string, err error) {
	k.dead = !k.wide
	k.problems = append(k.problems, Problem{Policy: k.policy, Rule: k.rule, Field: field, Text: err.Error()})
}

func (k *compiler) unknown(field string) {
	k.problem(field, errors.New("is not known"))
}

// clause is one source and one operation of a rule. All of its parts have to match.
type clause struct {
	source    *source
	operation *operation
	when      []condition
	wide      bool
	request   bool // it needs one
}

// clauses compiles a rule.
func (k *compiler) clauses(r *Rule) []clause {
	k.dead = false
	for _, name := range r.Unknown {
		k.unknown(name)
	}
	from, to := []*source{{}}, []*operation{{}}
	if len(r.From) > 0 {
		from = from[:0]
		for i := range r.From {
			from = append(from, k.source(&r.From[i]))
		}
	}
	if len(r.To) > 0 {
		to = to[:0]
		for i := range r.To {
			to = append(to, k.operation(&r.To[i]))
		}
	}
	var when []condition
	for i := range r.When {
		if c, ok := k.condition(&r.When[i]); ok {
			when = append(when, c)
		}
	}
	request := false
	for i := range when {
		request = request || when[i].needsRequest()
	}
	out := make([]clause, 0, len(from)*len(to))
	for _, s := range from {
		for _, o := range to {
			out = append(out, clause{s, o, when, k.wide, request || s.needsRequest() || o.needsRequest()})
		}
	}
	return out
}

func (c *clause) fitsConnection(f *facts) bool {
	if !c.source.fitsConnection(f) || !c.operation.fitsConnection(f) {
		return false
	}
	for i := range c.when {
		if !c.when[i].fitsConnection(f) {
			return false
		}
	}
	return true
}

// fits judges a clause for a request.
func (c *clause) fits(f *facts) bool {
	if !c.fitsConnection(f) || !c.operation.fitsRequest(f, c.wide) || !c.source.fitsRequest(f) {
		return false
	}
	for i := range c.when {
		if !c.when[i].fitsRequest(f, c.wide) {
			return false
		}
	}
	return true
}
