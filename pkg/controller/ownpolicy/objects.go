// Package ownpolicy translates Underlane's own AuthorizationPolicy
// (policy.underlane.io/v1alpha1, api/policy/v1alpha1) to the policies of pkg/policy/authz. It
// is pure.
//
// What is not understood fails closed, and the policy's condition Accepted says so: a rule
// that allows matches nothing, one that denies is judged without that part. A policy whose
// target is not understood is about all pods of its namespace.
package ownpolicy

import (
	"errors"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/api/policy/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/policyobject"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Policy is an object, translated.
type Policy struct {
	policyobject.Meta
	Authz    authz.Policy
	Problems []authz.Problem // what is not understood
	Pods     labels.Selector // those of its namespace that it is about
	Requests bool            // a rule looks at requests
}

// Read translates an object in JSON. trustDomain is that of the mesh. The error says that
// it is no object at all; ok is false if it is of another kind.
func Read(object []byte, trustDomain string) (p *Policy, ok bool, err error) {
	meta, err := policyobject.ReadMeta(object)
	if err != nil {
		return nil, false, err
	}
	if meta.Group != v1alpha1.Group || meta.Kind != v1alpha1.Kind {
		return nil, false, nil
	}
	return ReadSpec(meta, object, trustDomain), true, nil
}

// ReadSpec is Read for an object of this kind whose metadata is known. Only spec is read of
// object.
func ReadSpec(meta policyobject.Meta, object []byte, trustDomain string) *Policy {
	spec, unknown := policyobject.Read[v1alpha1.AuthorizationPolicySpec](object)
	p := &Policy{Meta: meta}
	p.Authz = authz.Policy{Name: meta.String(), Unknown: unknown.Object, Action: actions[spec.Action]}
	var err error
	if p.Pods, err = selector(&spec); err != nil {
		p.Pods = labels.Everything()
		p.Authz.Unknown = append(p.Authz.Unknown, "spec.targetRefs: "+err.Error())
	}
	if unknown.Broken {
		p.Pods = labels.Everything() // the target may be what was not read
	}
	switch spec.EnforcementLevel {
	case v1alpha1.EnforcementNetwork, v1alpha1.EnforcementApplication:
	default:
		p.Authz.Unknown = append(p.Authz.Unknown, fmt.Sprintf("spec.enforcementLevel %q", spec.EnforcementLevel))
	}
	if len(spec.Rules) > maxList {
		p.Authz.Unknown = append(p.Authz.Unknown, fmt.Sprintf("spec.rules: with more than %d elements", maxList))
		spec.Rules = spec.Rules[:maxList]
	}
	expressions := maxExpressions
	for i := range spec.Rules {
		t := rule{namespace: meta.Namespace, level: spec.EnforcementLevel, expressions: &expressions}
		t.out.Unknown = unknown.Rules[i]
		t.translate(&spec.Rules[i])
		p.Authz.Rules = append(p.Authz.Rules, t.out)
	}
	p.Requests, p.Problems = authz.Check(&p.Authz, trustDomain)
	p.Problems = policyobject.Shorten(p.Problems)
	return p
}

var actions = map[v1alpha1.AuthorizationPolicyAction]authz.Action{
	v1alpha1.ActionAllow: authz.ActionAllow, v1alpha1.ActionDeny: authz.ActionDeny, v1alpha1.ActionAudit: authz.ActionAudit,
}

// selector returns which pods of its namespace a policy is about.
func selector(spec *v1alpha1.AuthorizationPolicySpec) (labels.Selector, error) {
	if len(spec.TargetRefs) != 1 {
		return nil, fmt.Errorf("has %d references, want one to pods", len(spec.TargetRefs))
	}
	ref := &spec.TargetRefs[0]
	switch {
	case ref.Group != "" && ref.Group != "core" || ref.Kind != "Pod":
		return nil, fmt.Errorf("the kind %s.%s", ref.Kind, ref.Group)
	case ref.Name != "":
		return nil, errors.New("pods are selected by labels, not by a name")
	case ref.Selector == nil:
		return nil, errors.New("has no selector")
	}
	pods, err := metav1.LabelSelectorAsSelector(ref.Selector)
	if err != nil {
		return nil, fmt.Errorf("selector: %w", err)
	}
	return pods, nil
}

// Decides reports whether the policy closes the pods that it selects to what no policy
// allows.
func (p *Policy) Decides() bool { return p.Authz.Action == authz.ActionAllow }

// Selects reports whether the policy is about a pod.
func (p *Policy) Selects(namespace string, pod map[string]string) bool {
	return p.Namespace == namespace && p.Pods.Matches(labels.Set(pod))
}

// Status returns the policy's status as this controller sees it: the ancestor is the namespace
// whose pods it selects. The caller sets LastTransitionTime, and keeps what other
// controllers have written.
func (p *Policy) Status(controller gatewayv1.GatewayController) gatewayv1.PolicyAncestorStatus {
	group, kind := gatewayv1.Group(""), gatewayv1.Kind("Namespace")
	return gatewayv1.PolicyAncestorStatus{
		AncestorRef:    gatewayv1.ParentReference{Group: &group, Kind: &kind, Name: gatewayv1.ObjectName(p.Namespace)},
		ControllerName: controller,
		Conditions:     []metav1.Condition{policyobject.Accepted(p.Generation, p.Problems)},
	}
}
