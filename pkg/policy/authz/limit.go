package authz

import (
	"slices"
	"strconv"
	"time"
)

// Limit limits the requests to a workload. What it limits is counted in buckets, one for each
// combination of what By names, by all workloads that have the limit together.
type Limit struct {
	Policy string // for decisions and problems: kind, namespace and name of the object
	Name   string // of the limit in the policy; may be empty
	Number int    // in the policy, from 1
	// Requests may come in Per, evenly, and Burst of them at once. 0 lets in none: the
	// limit is not understood.
	Requests, Burst uint32
	Per             time.Duration
	// Nodes is the number of nodes that share the limit, or more. 0: each node has it for
	// itself.
	Nodes uint32
	By    []Distinct // none: all requests have one bucket
	// Where matches the requests that are limited. A doubt counts as a match, as in a rule
	// that denies.
	Where Rule
}

// DistinctKind says what of a request a limit distinguishes. Others than these are left out:
// requests that differ by them alone share a bucket.
type DistinctKind uint8

// The kinds of Distinct.
const (
	DistinctUnknown   DistinctKind = iota
	DistinctIdentity               // of the client
	DistinctNamespace              // of the client's identity
	DistinctHeader                 // Name
	DistinctClaim                  // Claim
	DistinctPath                   // without the query
)

// Distinct is a part of what a limit distinguishes. What does not have it has one bucket
// together.
type Distinct struct {
	Kind  DistinctKind
	Name  string   // of a header field, in lower case
	Claim []string // the path to a claim of the request's verified token
}

// Parts takes the value of a request.
type Parts interface {
	Add(part string)
	AddNone() // the request has no such part
}

// CompiledLimit is a Limit of a Workload.
type CompiledLimit struct {
	*Limit
	ID    string // FullName
	where *Set   // nil: all requests
}

// FullName names the limit in the whole mesh.
func (l *Limit) FullName() string {
	if l.Name == "" {
		return l.Policy + " " + strconv.Itoa(l.Number)
	}
	return l.Policy + " " + l.Name
}

// PerSecond returns the rate, in requests a second.
func (l *Limit) PerSecond() float64 {
	if l.Per <= 0 {
		return 0
	}
	return float64(l.Requests) / l.Per.Seconds()
}

// Limits returns the limits of the workload.
func (w *Workload) Limits() []CompiledLimit {
	if w == nil {
		return nil
	}
	return w.limits
}

// HasLimit reports whether there is a limit with this ID.
func (w *Workload) HasLimit(id string) bool {
	return slices.ContainsFunc(w.Limits(), func(l CompiledLimit) bool { return l.ID == id })
}

// place is that of the limit in its policy.
func (l *Limit) place() Place { return Place{Policy: l.Policy, Rule: l.Name, Number: l.Number} }

// Over returns what follows of d if a request that d allows is over the limit.
func (l *CompiledLimit) Over(d Decision) Decision {
	d.Outcome, d.Group = Outcome{Verdict: Deny, Why: WhyLimit, Place: l.place()}, ""
	return d
}

func (w *Workload) compileLimits(spec *Spec) (problems []Problem) {
	for i := range spec.Limits {
		l := &spec.Limits[i]
		c := CompiledLimit{Limit: l, ID: l.FullName()}
		if r := &l.Where; len(r.From)+len(r.To)+len(r.When)+len(r.Unknown) > 0 {
			var found []Problem
			c.where, found = Compile([]Policy{{Name: l.Policy, Action: ActionDeny, Rules: []Rule{*r}}}, Options{TrustDomain: spec.TrustDomain, Default: ModeAllUnauthenticated})
			for j := range found {
				found[j].Rule = l.Number
			}
			problems = append(problems, found...)
		}
		w.limits = append(w.limits, c)
	}
	return problems
}

// Limits reports whether the limit is about a request.
func (l *CompiledLimit) Limits(c *Connection, r *Request) bool {
	return l.where == nil || l.where.DecideRequest(c, r).Verdict == Deny
}

// Value adds what the limit distinguishes to to. It does not allocate, unless the path is not
// normalised.
func (l *CompiledLimit) Value(c *Connection, r *Request, to Parts) {
	for i := range l.By {
		switch by := &l.By[i]; by.Kind {
		case DistinctIdentity:
			one(to, c.Peer.uri)
		case DistinctNamespace:
			one(to, c.Peer.id.Namespace)
		case DistinctHeader:
			n := 0
			if r.Fields != nil {
				for v, next, ok := r.Fields.Next(by.Name, 0); ok; v, next, ok = r.Fields.Next(by.Name, next) {
					to.Add(v)
					n++
				}
			}
			several(to, n)
		case DistinctClaim:
			n := 0
			if r.Claims != nil {
				for v, ok := r.Claims.Value(by.Claim, 0); ok; v, ok = r.Claims.Value(by.Claim, n) {
					to.Add(v)
					n++
				}
			}
			several(to, n)
		case DistinctPath:
			read := readPath(r.Path)
			to.Add(read.of[read.n-1]) // normalised: another spelling is no other path
		}
	}
}

func one(to Parts, part string) {
	if part == "" {
		to.AddNone()
		return
	}
	to.Add(part)
}

// several ends a list of n values, so that it differs from a longer one.
func several(to Parts, n int) {
	if n != 1 {
		to.AddNone()
	}
}

// CheckLimits compiles limits. It returns what is not understood.
func CheckLimits(limits []Limit, trustDomain string) []Problem {
	return new(Workload).compileLimits(&Spec{TrustDomain: trustDomain, Limits: limits})
}
