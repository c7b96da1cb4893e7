package translate

import (
	"iter"
	"reflect"
	"slices"

	"github.com/underlane/underlane/api/policy/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/bylabels"
	"github.com/underlane/underlane/pkg/controller/ownpolicy"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// rateLimits has the RateLimitPolicies, by namespace.
type rateLimits map[string]*bylabels.Index[*rateLimit]

// rateLimit is a policy with the limits that pods have by it. counted has them with the number
// of nodes that share them.
type rateLimit struct {
	pods            podSelector
	limits, counted []authz.Limit
}

// rateLimits reads the RateLimitPolicies of o.
func (t *translation) rateLimits(o *Objects) rateLimits {
	all := rateLimits{}
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
		in.Add(p.Pods, &rateLimit{pods: p.Pods, limits: p.Limits})
	}
	return all
}

// count counts the nodes that have pods of each policy. pods are those of its namespace. It
// returns the selectors of those that have other limits by it.
func (r rateLimits) count(namespace string, pods iter.Seq[*pod]) (changed []podSelector) {
	in := r[namespace]
	if in == nil {
		return nil
	}
	nodes := map[*rateLimit]map[string]bool{}
	for _, l := range in.All() {
		nodes[l] = map[string]bool{}
	}
	for p := range pods {
		if p.workload.Meshed {
			for _, l := range in.Select(p.Labels) {
				nodes[l][p.workload.Node] = true
			}
		}
	}
	for l, on := range nodes {
		counted := slices.Clone(l.limits)
		for i := range counted {
			if counted[i].Nodes > 0 {
				counted[i].Nodes = stepped(len(on))
			}
		}
		if !reflect.DeepEqual(l.counted, counted) {
			changed = append(changed, l.pods)
		}
		l.counted = counted
	}
	return changed
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
		out = append(out, l.counted...)
	}
	return out
}
