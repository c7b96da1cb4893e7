package translate

import (
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/api/policy/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/bylabels"
	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/ownpolicy"
	"github.com/underlane/underlane/pkg/controller/policyobject"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// ownFront has the policies of policy.underlane.io, by namespace.
type ownFront map[string]*bylabels.Index[*ownpolicy.Policy]

func newOwnFront(t *translation, o *Objects) front {
	f := ownFront{}
	for _, object := range o.PolicyObjects {
		meta := metaOf(object)
		if meta.Group != v1alpha1.Group || meta.Kind != v1alpha1.Kind {
			continue
		}
		p := parsed(t, object, func() *ownpolicy.Policy { return ownpolicy.ReadSpec(meta, specOf(object), t.config.TrustDomain) })
		for _, problem := range p.Problems {
			t.authzProblem(problem)
		}
		t.addStatus(object, p.Status(ControllerName))
		in := f[p.Namespace]
		if in == nil {
			in = &bylabels.Index[*ownpolicy.Policy]{}
			f[p.Namespace] = in
		}
		in.Add(p.Pods, p)
	}
	return f
}

// rule returns one group with the policies that select the pod. Where one of them allows,
// what none allows is denied, on all ports (GEP-3779).
func (f ownFront) rule(p *pod) (out ruling) {
	policies := f[p.Namespace].Select(p.Labels)
	if len(policies) == 0 {
		return out
	}
	group := authz.Group{Name: v1alpha1.Group, Default: authz.ModeAllUnauthenticated, Unmatched: authz.ModeDeny}
	for _, policy := range policies {
		group.Policies = append(group.Policies, policy.Authz)
		out.requests = out.requests || policy.Requests
	}
	out.groups = []authz.Group{group}
	out.decided = decidedBy(group.Policies)
	return out
}

// decidedBy returns the ports about which policies decide that are about all ports of a pod:
// all if one of them allows, otherwise none.
func decidedBy(policies []authz.Policy) []authz.PortRange {
	if slices.ContainsFunc(policies, func(p authz.Policy) bool { return p.Action == authz.ActionAllow && !p.Rehearse }) {
		return allPorts
	}
	return nil
}

// addStatus sets the status that a policy should have.
func (t *report) addStatus(o *custom.PolicyObject, s gatewayv1.PolicyAncestorStatus) {
	t.RouteStatuses = append(t.RouteStatuses, RouteStatus{
		Kind: o.QualifiedKind(), Namespace: o.Namespace, Name: o.Name,
		Parents: []gatewayv1.RouteParentStatus{{ParentRef: s.AncestorRef, ControllerName: s.ControllerName, Conditions: s.Conditions}},
	})
}

func metaOf(o *custom.PolicyObject) policyobject.Meta {
	gvk := o.GroupVersionKind()
	return policyobject.Meta{
		Group: gvk.Group, Kind: gvk.Kind, Namespace: o.Namespace, Name: o.Name, Generation: o.Generation,
		Created: o.CreationTimestamp.Time, Labels: o.Labels, Annotations: o.Annotations,
	}
}

// specOf returns an object of JSON that has the specification of o alone.
func specOf(o *custom.PolicyObject) []byte {
	if len(o.Spec) == 0 {
		return []byte("{}")
	}
	return slices.Concat([]byte(`{"spec":`), o.Spec, []byte("}"))
}
