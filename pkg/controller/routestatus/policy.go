package routestatus

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/istiopolicy"
	"github.com/underlane/underlane/pkg/controller/translate"
)

// form is the shape of a status.
type form uint8

const (
	parents    form = iota // of a route
	ancestors              // of a policy (GEP-713)
	conditions             // of a policy of Istio: one list, which other controllers write to as well
	accepted               // of an EgressNetwork: such a list, in which the condition Accepted is Underlane's
	targeted               // of an HTTPLocalRateLimitPolicy: likewise, beside the target
)

// condition is the type of Underlane's condition in a list.
func (f form) condition() string {
	if f == accepted || f == targeted {
		return string(gatewayv1.RouteConditionAccepted)
	}
	return istiopolicy.ConditionType
}

// kindOf is the kind of a resource of policies, as translate.RouteStatus has it.
func kindOf(r *custom.Resource) string { return r.Kind + "." + r.Group }

func formOf(kind string) form {
	switch resource := resources[kind]; {
	case resource == nil || resource.Group == custom.GatewayGroup || resource == &custom.LinkerdHTTPRoutes:
		return parents
	case resource == &custom.LinkerdRateLimits:
		return targeted
	case resource.Group == custom.IstioGroup:
		return conditions
	case kind == translate.KindEgressNetwork:
		return accepted
	}
	return ancestors
}

// status is the status of an object of any form.
type status struct {
	Parents    []gatewayv1.RouteParentStatus    `json:"parents"`
	Ancestors  []gatewayv1.PolicyAncestorStatus `json:"ancestors"`
	Conditions []json.RawMessage                `json:"conditions"`
	TargetRef  gatewayv1.ParentReference        `json:"targetRef"` // form targeted: the one parent
}

// has returns the entries of a status. Of a list of conditions it is one entry with
// Underlane's, if it is there.
func (s *status) has(f form) []gatewayv1.RouteParentStatus {
	switch f {
	case parents:
		return s.Parents
	case ancestors:
		return fromAncestors(s.Ancestors)
	}
	for _, text := range s.Conditions {
		if isOurs(text, f) {
			var c metav1.Condition
			_ = json.Unmarshal(text, &c) // what cannot be read is written again
			out := gatewayv1.RouteParentStatus{ControllerName: translate.ControllerName, Conditions: []metav1.Condition{c}}
			if f == targeted {
				out.ParentRef = s.TargetRef
			}
			return []gatewayv1.RouteParentStatus{out}
		}
	}
	return nil
}

// with returns the fields of the status with other entries. Conditions of others stay as they
// are, with fields that are not known here.
func (s *status) with(f form, merged []gatewayv1.RouteParentStatus) map[string]any {
	switch f {
	case parents:
		return map[string]any{"parents": merged}
	case ancestors:
		return map[string]any{"ancestors": toAncestors(merged)}
	}
	list := []any{}
	for _, text := range s.Conditions {
		if !isOurs(text, f) {
			list = append(list, text)
		}
	}
	for i := range merged {
		for _, c := range merged[i].Conditions {
			list = append(list, c)
		}
	}
	out := map[string]any{"conditions": list}
	if f == targeted && len(merged) > 0 {
		out["targetRef"] = merged[0].ParentRef // the definition requires it
	}
	return out
}

func isOurs(condition json.RawMessage, f form) bool {
	var head struct {
		Type string `json:"type"`
	}
	return json.Unmarshal(condition, &head) == nil && head.Type == f.condition()
}

// lookPolicies calls look for the authorization policies that have a status.
func lookPolicies(all []*custom.PolicyObject, look func(kind string, m *metav1.ObjectMeta, now []gatewayv1.RouteParentStatus)) {
	for _, p := range all {
		kind := p.QualifiedKind()
		if resources[kind] == nil {
			continue
		}
		var now status
		if len(p.Status) > 0 {
			_ = json.Unmarshal(p.Status, &now) // what cannot be read is written again
		}
		look(kind, &p.ObjectMeta, now.has(formOf(kind)))
	}
}

func fromAncestors(all []gatewayv1.PolicyAncestorStatus) []gatewayv1.RouteParentStatus {
	var out []gatewayv1.RouteParentStatus
	for _, a := range all {
		out = append(out, gatewayv1.RouteParentStatus{ParentRef: a.AncestorRef, ControllerName: a.ControllerName, Conditions: a.Conditions})
	}
	return out
}

// toAncestors never returns nil, because the API requires a list.
func toAncestors(all []gatewayv1.RouteParentStatus) []gatewayv1.PolicyAncestorStatus {
	out := []gatewayv1.PolicyAncestorStatus{}
	for _, p := range all {
		out = append(out, gatewayv1.PolicyAncestorStatus{AncestorRef: p.ParentRef, ControllerName: p.ControllerName, Conditions: p.Conditions})
	}
	return out
}
