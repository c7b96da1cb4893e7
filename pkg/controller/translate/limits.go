package translate

import (
	"slices"

	"github.com/underlane/underlane/api/policy/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/bylabels"
	"github.com/underlane/underlane/pkg/controller/ownpolicy"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// rateLimits has the RateLimitPolicies, by namespace.
type rateLimits map[string]*bylabels.Index[*rateLimit]

// rateLimit is a policy with the limits that pods have by it.
type rateLimit []authz.Limit

// rateLimits reads the RateLimitPolicies of o. The pods must be known.
func (t *translation) rateLimits(o *Objects) rateLimits {
	all := rateLimits{}
	shared := map[*rateLimit]map[string]bool{} // nodes with pods of a policy
	for _, object := range o.PolicyObjects {
		meta := metaOf(object)
		if meta.Group != v1alpha1.Group || meta.Kind != v1alpha1.RateLimitKind {
			continue
		}
		p := parsed(t, object, func() *ownpolicy.RateLimits {
			return ownpolicy.ReadRateLimits(meta, specOf(object), t.config.TrustDomain)
		})
		for _, problem := range p.Problems {
			t.authzProblem(problem)
		}
		t.addStatus(object, p.Status(ControllerName))
		in := all[p.Namespace]
		if in == nil {
			in = &bylabels.Index[*rateLimit]{}
			all[p.Namespace] = in
		}
		limits := rateLimit(slices.Clone(p.Limits))
		shared[&limits] = map[string]bool{}
		in.Add(p.Pods, &limits)
	}
	for namespace, in := range all {
		for _, p := range t.pods[namespace] {
			if !p.workload.Meshed {
				continue
			}
			for _, l := range in.Select(p.Labels) {
				shared[l][p.workload.Node] = true
			}
		}
	}
	for limits, nodes := range shared {
		for i := range *limits {
			if l := &(*limits)[i]; l.Nodes > 0 {
				l.Nodes = stepped(len(nodes))
			}
		}
	}
	return all
}

// stepped rounds a number of nodes up, by half at most. The limits of all pods change with it,
// and pods come and go.
func stepped(n int) uint32 {
	step := 1
	for n > 4*step {
		step *= 2
	}
	return uint32(max((n+step-1)/step*step, 1))
}

// of returns the limits of a pod.
func (r rateLimits) of(p *pod) (out []authz.Limit) {
	in := r[p.Namespace]
	if in == nil {
		return nil
	}
	for _, l := range in.Select(p.Labels) {
		out = append(out, *l...)
	}
	return out
}
