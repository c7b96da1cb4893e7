package v1alpha1

import (
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
)

// DeepCopyObject implements runtime.Object.
func (p *AuthorizationPolicy) DeepCopyObject() runtime.Object { return p.DeepCopy() }

// DeepCopy returns a copy that shares nothing with p.
func (p *AuthorizationPolicy) DeepCopy() *AuthorizationPolicy {
	out := &AuthorizationPolicy{TypeMeta: p.TypeMeta}
	p.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	p.Status.DeepCopyInto(&out.Status)
	s := p.Spec
	out.Spec = s
	out.Spec.TargetRefs = slices.Clone(s.TargetRefs)
	for i := range s.TargetRefs {
		out.Spec.TargetRefs[i].Selector = s.TargetRefs[i].Selector.DeepCopy()
	}
	out.Spec.Rules = slices.Clone(s.Rules)
	for i := range s.Rules {
		s.Rules[i].deepCopyInto(&out.Spec.Rules[i])
	}
	return out
}

func (r *AuthorizationRule) deepCopyInto(out *AuthorizationRule) {
	out.Sources = slices.Clone(r.Sources) // keeps the difference of nil and empty
	for i := range r.Sources {
		out.Sources[i].SPIFFE = copyOf(r.Sources[i].SPIFFE)
		if a := copyOf(r.Sources[i].ServiceAccount); a != nil {
			a.Namespace = copyOf(a.Namespace)
			out.Sources[i].ServiceAccount = a
		}
	}
	if n := r.NetworkAttributes; n != nil {
		out.NetworkAttributes = &AuthorizationNetworkAttributes{Ports: slices.Clone(n.Ports)}
	}
	if a := r.Authorization; a != nil {
		c := &AuthorizationAttributes{
			Type: a.Type, CEL: copyOf(a.CEL), Methods: slices.Clone(a.Methods), Paths: slices.Clone(a.Paths),
			Headers: slices.Clone(a.Headers), Hosts: slices.Clone(a.Hosts), Ports: slices.Clone(a.Ports),
		}
		for i := range a.Paths {
			a.Paths[i].DeepCopyInto(&c.Paths[i])
		}
		for i := range a.Headers {
			a.Headers[i].DeepCopyInto(&c.Headers[i])
		}
		out.Authorization = c
	}
}

// DeepCopyObject implements runtime.Object.
func (l *AuthorizationPolicyList) DeepCopyObject() runtime.Object {
	out := &AuthorizationPolicyList{TypeMeta: l.TypeMeta, Items: slices.Clone(l.Items)}
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range l.Items {
		out.Items[i] = *l.Items[i].DeepCopy()
	}
	return out
}

func copyOf[T any](v *T) *T {
	if v == nil {
		return nil
	}
	out := *v
	return &out
}
