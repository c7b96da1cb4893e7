package authz

import (
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/mesh"
)

// Group holds what one front end says of some ports of a workload. A client must be
// allowed by each group that has the port.
type Group struct {
	// Name is that of the language, for decisions and problems.
	Name string
	// Ports are those that the group is about. Without ports it is about all except
	// NotPorts.
	Ports, NotPorts []PortRange
	Policies        []Policy
	// Default and Unmatched are as in Options.
	Default, Unmatched Mode
	// Routed: every request belongs to one of Routes, or is refused. What is not read as
	// requests is refused, too. Routes are all of HTTP, or all of gRPC.
	Routed bool
	Routes []Route
}

// Spec holds all policies that apply to one workload. It is what the controller sends to
// the agent of the workload's node.
type Spec struct {
	TrustDomain string
	Cluster     []netip.Prefix
	Groups      []Group
	RateLimits  []RateLimit
	Limits      []Limit
	Tokens      []TokenRule
	Authorizers []Authorizer
}

// Authorizer is an external authorizer that policies name.
type Authorizer struct {
	Name string // Policy.Provider
	mesh.ExternalAuth
}

// Workload is a compiled Spec. It is immutable and safe for concurrent use. The nil
// Workload denies everything except probes.
type Workload struct {
	spec     *Spec
	groups   []compiledGroup
	limits   []CompiledLimit
	requests bool
}

type compiledGroup struct {
	name            string // for outcomes
	ports, notPorts []PortRange
	set             *Set
	router          *router // nil: the group has no routes
}

// requests reports whether the decision about a request can differ from that about another.
func (g *compiledGroup) requests() bool { return g.set.requests || g.router != nil }

// DefaultGroup is the name of the group for ports that no policy is about.
const DefaultGroup = "default"

// CompileWorkload compiles a Spec, which must not be changed afterwards. The Workload is
// valid whatever the Problems are: what they are about fails closed.
func CompileWorkload(spec *Spec) (*Workload, []Problem) {
	w := &Workload{spec: spec, requests: len(spec.Tokens) > 0}
	var problems []Problem
	for i := range spec.Groups {
		g := &spec.Groups[i]
		set, found := Compile(g.Policies, Options{
			TrustDomain: spec.TrustDomain, Cluster: spec.Cluster, Default: g.Default, Unmatched: g.Unmatched,
		})
		problems = append(problems, found...)
		ports, wrong := validPorts(g.Ports)
		notPorts, wrongNot := validPorts(g.NotPorts)
		if wrong || wrongNot {
			problems = append(problems, Problem{Field: "ports of " + g.Name, Text: "a range is not valid: the policies apply to all ports"})
			ports, notPorts = nil, nil
		}
		name := g.Name
		if name == DefaultGroup {
			name += " " + set.options.Default.String()
		}
		router, wrongRoutes := newRouter(g)
		problems = append(problems, wrongRoutes...)
		w.groups = append(w.groups, compiledGroup{name, ports, notPorts, set, router})
		w.requests = w.requests || w.groups[i].requests()
	}
	return w, append(problems, w.compileLimits(spec)...)
}

// Check compiles one policy. It returns whether a rule looks at requests, and what is not
// understood.
func Check(p *Policy, trustDomain string) (requests bool, problems []Problem) {
	s, problems := Compile([]Policy{*p}, Options{TrustDomain: trustDomain})
	return s.requests || s.rehearsal != nil && s.rehearsal.requests, problems
}

func validPorts(in []PortRange) (out []PortRange, wrong bool) {
	for _, r := range in {
		if r.First == 0 || r.First > r.Last {
			return nil, true
		}
	}
	return in, false
}

// Spec returns the policies that were compiled. They must not be changed.
func (w *Workload) Spec() *Spec {
	if w == nil {
		return nil
	}
	return w.spec
}

// Objects returns the names of what may decide: policies, and groups where a mode does. They are in
// the order of the groups.
func (w *Workload) Objects() (out []string) {
	if w == nil {
		return nil
	}
	for i := range w.groups {
		out = append(out, w.groups[i].name)
		for _, p := range w.spec.Groups[i].Policies {
			if !slices.Contains(out, p.Name) {
				out = append(out, p.Name)
			}
		}
	}
	return out
}

// NeedsRequests reports whether the decision about a request on this port can differ from
// that about another one of the same connection. Port 0 stands for any port.
func (w *Workload) NeedsRequests(port uint16) bool {
	if w == nil || !w.requests {
		return false
	}
	if len(w.spec.Tokens) > 0 {
		return true
	}
	for i := range w.groups {
		if g := &w.groups[i]; g.requests() && (port == 0 || g.has(port)) {
			return true
		}
	}
	return false
}

// Asks reports whether requests on this port may have to be allowed by an authorizer.
func (w *Workload) Asks(port uint16) bool {
	if w == nil {
		return false
	}
	for i := range w.groups {
		if g := &w.groups[i]; g.set.provider != "" && g.has(port) {
			return true
		}
	}
	return false
}

// Authorizer returns the authorizer of a name, or nil if it is not known.
func (w *Workload) Authorizer(name string) *mesh.ExternalAuth {
	for i := range w.spec.Authorizers {
		if a := &w.spec.Authorizers[i]; a.Name == name {
			return &a.ExternalAuth
		}
	}
	return nil
}

func (g *compiledGroup) has(port uint16) bool {
	return (len(g.ports) == 0 || inRanges(g.ports, port)) && !inRanges(g.notPorts, port)
}

// DecideConnection decides as Set.DecideConnection does. A port that no group is about is
// open.
func (w *Workload) DecideConnection(c *Connection) Decision {
	return w.decide(c, nil)
}

// DecideRequest decides as Set.DecideRequest does.
func (w *Workload) DecideRequest(c *Connection, r *Request) Decision {
	if r == nil {
		return w.decide(c, nil).Opaque()
	}
	return w.decide(c, r)
}

func (w *Workload) decide(c *Connection, r *Request) Decision {
	var none *Set
	if w == nil || c == nil || c.Probe {
		return none.DecideConnection(c)
	}
	out := Decision{Outcome: Outcome{Verdict: Allow, Why: WhyUnruled}}
	for i := range w.groups {
		g := &w.groups[i]
		if !g.has(c.Port) {
			continue
		}
		d := g.decide(c, r)
		d.Group = g.name
		if d.Verdict == Ask {
			d.Provider = g.set.provider
		}
		if d.Rehearsed {
			d.RehearsalGroup = g.name
		}
		out.join(&d)
	}
	if r == nil && len(w.spec.Tokens) > 0 { // whether there is a token, and a good one
		out.join(&Decision{Outcome: Outcome{Verdict: NeedsRequest, Why: WhyRule, Place: Place{Policy: w.spec.Tokens[0].Policy}}})
	}
	return out
}

func (g *compiledGroup) decide(c *Connection, r *Request) Decision {
	switch {
	case r == nil:
		d := g.set.DecideConnection(c)
		if g.router != nil {
			d.Outcome, d.Rehearsal = d.Outcome.routed(), d.Rehearsal.routed()
		}
		return d
	case g.router == nil:
		return g.set.DecideRequest(c, r)
	}
	name, ok := g.router.find(r)
	if !ok {
		return Decision{Outcome: Outcome{Verdict: Deny, Why: WhyUnrouted}}
	}
	return g.set.decideRequest(c, r, name)
}

// routed is the outcome for a connection whose requests have to belong to a route.
func (o Outcome) routed() Outcome {
	if o.Verdict == Allow {
		o.Verdict = NeedsRequest
	}
	return o
}

// join makes d the decision of two groups that both have to allow.
func (d *Decision) join(other *Decision) {
	was := *d
	if !was.Outcome.decides(&other.Outcome) {
		d.Outcome, d.Group, d.Provider = other.Outcome, other.Group, other.Provider
	}
	if other.Rehearsed || d.Rehearsed {
		a, b := was.rehearsal(), other.rehearsal()
		if !a.Outcome.decides(&b.Outcome) {
			a = b
		}
		d.Rehearsed, d.Rehearsal, d.RehearsalGroup = true, a.Outcome, a.Group
	}
	if d.Audit == (Place{}) {
		d.Audit = other.Audit
	}
	if d.Failed == (Failed{}) {
		d.Failed = other.Failed
	}
}

// rehearsal returns the outcome of a rehearsal, or that of the policies if nothing is rehearsed.
func (d *Decision) rehearsal() Decision {
	if d.Rehearsed {
		return Decision{Outcome: d.Rehearsal, Group: d.RehearsalGroup}
	}
	return Decision{Outcome: d.Outcome, Group: d.Group}
}

// severity orders verdicts: of two groups the severer one decides.
var severity = [...]uint8{Deny: 3, Ask: 2, NeedsRequest: 1, Allow: 0}

// decides reports whether o is the outcome of itself and of another, b. Among two that allow
// it is one that is to be reported, and else b: o may be that of no group.
func (o *Outcome) decides(b *Outcome) bool {
	so, sb := severity[o.Verdict], severity[b.Verdict]
	return so > sb || so == sb && so > 0 || so == sb && o.Why == WhyAudit
}
