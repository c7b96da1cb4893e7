package linkerdpolicy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/underlane/underlane/pkg/controller/policyobject"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// RateLimitPolicy is an HTTPLocalRateLimitPolicy of policy.linkerd.io.
type RateLimitPolicy struct {
	policyobject.Meta
	Spec    RateLimitSpec
	Unknown []string
	broken  bool // there may be more that is not understood
}

// astray reports whether the target is not understood. The limit then holds for each Server of
// the namespace that has no other one.
func (p *RateLimitPolicy) astray() bool {
	return p.broken || !p.Spec.TargetRef.is(Group, "Server") || p.Spec.TargetRef.Name == ""
}

// RateLimitSpec has the limits of a Server. They hold in each pod.
type RateLimitSpec struct {
	TargetRef Reference `json:"targetRef"`
	Total     *Limit    `json:"total"`
	Identity  *Limit    `json:"identity"`
	Overrides []struct {
		RequestsPerSecond int64       `json:"requestsPerSecond"`
		ClientRefs        []Reference `json:"clientRefs"`
	} `json:"overrides"`
}

// Limit is a rate.
type Limit struct {
	RequestsPerSecond int64 `json:"requestsPerSecond"`
}

// RateLimit returns the limit of a Server, without ports, or nil. Of several policies the oldest holds, then
// the one with the first name. What is not understood of it is a problem, and the rest
// limits: an override whose clients are not understood is a limit of every identity.
func (o *Objects) RateLimit(s *Server, trustDomain string) (*authz.RateLimit, []authz.Problem) {
	all := o.places().limits[name{s.Namespace, s.Name}]
	if len(all) == 0 {
		return nil, nil
	}
	var problems []authz.Problem
	p := &o.RateLimits[all[0]]
	for _, i := range all[1:] {
		if o.RateLimits[i].astray() {
			continue
		}
		problems = append(problems, authz.Problem{Policy: o.RateLimits[i].String(), Field: "spec.targetRef", Text: "the Server has a limit already, of " + p.Name})
	}
	problem := func(field, text string) {
		problems = append(problems, authz.Problem{Policy: p.String(), Field: field, Text: text})
	}
	for _, field := range p.Unknown {
		problem(field, "is not known")
	}
	out := &authz.RateLimit{Policy: p.String()}
	if p.broken {
		problem("spec", "cannot be read: it is one request a second")
		out.Total = 1
		return out, problems
	}
	rate := func(field string, n int64) uint32 {
		unread := n == 0 && slices.ContainsFunc(p.Unknown, func(f string) bool { return strings.HasPrefix(f, field) })
		if n < 0 || n > 1<<32-1 || unread {
			problem(field, "is no rate of requests: it is one a second")
			return 1
		}
		return uint32(n)
	}
	if p.Spec.Total != nil {
		out.Total = rate("spec.total", p.Spec.Total.RequestsPerSecond)
	}
	if p.Spec.Identity != nil {
		out.Identity = rate("spec.identity", p.Spec.Identity.RequestsPerSecond)
	}
	for i := range p.Spec.Overrides {
		in := &p.Spec.Overrides[i]
		to := authz.RateOverride{RequestsPerSecond: rate("spec.overrides", in.RequestsPerSecond)}
		for _, ref := range in.ClientRefs {
			if !ref.is("", "ServiceAccount") || ref.Name == "" {
				problem("spec.overrides", ref.String()+": the kind is not known")
				if to.RequestsPerSecond > 0 && (out.Identity == 0 || to.RequestsPerSecond < out.Identity) {
					out.Identity = to.RequestsPerSecond
				}
				continue
			}
			to.Clients = append(to.Clients, mesh.Identity{TrustDomain: trustDomain, Namespace: cmp.Or(ref.Namespace, p.Namespace), ServiceAccount: ref.Name})
		}
		if len(to.Clients) > 0 {
			out.Overrides = append(out.Overrides, to)
		}
	}
	if len(p.Unknown) > 0 && out.Total == 0 && out.Identity == 0 && len(out.Overrides) == 0 {
		problem("spec", "has no limit that is known: it is one request a second")
		out.Total = 1
	}
	return out, problems
}

// limitsByServer returns the places of the limits of each Server, first of the one that holds:
// the oldest, then the one with the first name. Those without a time come last, and after them
// those that are astray.
func (o *Objects) limitsByServer() map[name][]int {
	out := map[name][]int{}
	for i := range o.RateLimits {
		p := &o.RateLimits[i]
		if !p.astray() {
			at := name{p.Namespace, p.Spec.TargetRef.Name}
			out[at] = append(out[at], i)
			continue
		}
		for j := range o.Servers {
			if s := &o.Servers[j]; s.Namespace == p.Namespace {
				at := name{s.Namespace, s.Name}
				out[at] = append(out[at], i)
			}
		}
	}
	for _, places := range out {
		slices.SortFunc(places, func(i, j int) int {
			a, b := &o.RateLimits[i], &o.RateLimits[j]
			if a.astray() != b.astray() {
				if a.astray() {
					return 1
				}
				return -1
			}
			if a.Created.IsZero() != b.Created.IsZero() {
				if a.Created.IsZero() {
					return 1
				}
				return -1
			}
			return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
		})
	}
	return out
}

// Refused returns the reason in the words of Linkerd's controller why a limit has no Server, ""
// if it has one.
func (o *Objects) Refused(p *RateLimitPolicy) string {
	ref := p.Spec.TargetRef
	server := name{p.Namespace, ref.Name}
	if p.astray() || !has(o.places().servers, server) {
		return "NoMatchingTarget"
	}
	if first := o.places().limits[server][0]; o.RateLimits[first].Name != p.Name {
		return "RateLimitReasonAlreadyExists"
	}
	return ""
}

// Unattached returns the rate limits that no Server has: their target does not exist, is of
// another kind, or has no requests.
func (o *Objects) Unattached() (problems []authz.Problem) {
	for i := range o.RateLimits {
		p := &o.RateLimits[i]
		ref := p.Spec.TargetRef
		if p.astray() {
			what := "is not understood"
			if !ref.is(Group, "Server") {
				what = "the kind is not known"
			}
			text := fmt.Sprintf("%s: %s: the limit is that of each Server of the namespace that has no other one", ref, what)
			problems = append(problems, authz.Problem{Policy: p.String(), Field: "spec.targetRef", Text: text})
		} else if !has(o.places().servers, name{p.Namespace, ref.Name}) {
			problems = append(problems, authz.Problem{Policy: p.String(), Field: "spec.targetRef", Text: "Server " + ref.Name + " does not exist"})
		} else if s := &o.Servers[o.places().servers[name{p.Namespace, ref.Name}]]; !s.readsRequests() {
			problems = append(problems, authz.Problem{Policy: p.String(), Field: "spec.targetRef", Text: fmt.Sprintf("Server %s has proxyProtocol %q, so that there are no requests", ref.Name, s.Spec.ProxyProtocol)})
		}
	}
	return problems
}
