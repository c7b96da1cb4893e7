package routestatus

import (
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
)

// isPolicy reports whether the status of a kind has ancestors where a route's has
// parents (GEP-713).
func isPolicy(kind string) bool { return kind == custom.BackendTrafficPolicies.Kind }

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
