package translate

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// ControllerName is the controller's name in the statuses of routes.
const ControllerName gatewayv1.GatewayController = "underlane.io/controller"

// RouteStatus is the desired status of a route for its parents that are Services.
// It is also the status of an XBackendTrafficPolicy for its targets, and of an authorization
// policy, which have the same shape (PolicyAncestorStatus). That of a policy of Istio is a
// list of conditions: it has one parent, without a reference.
type RouteStatus struct {
	Kind, Namespace, Name string // the Kind of an authorization policy is KIND.GROUP
	// Parents are in the order of the route's parentRefs. Their conditions have no
	// LastTransitionTime, because only a comparison with the object shows what has
	// changed.
	Parents []gatewayv1.RouteParentStatus
}

// addRouteStatus adds the status of some parents of an object. Those of one object come
// one after the other.
func (t *report) addRouteStatus(s RouteStatus) {
	if n := len(t.RouteStatuses); n > 0 {
		if last := &t.RouteStatuses[n-1]; last.Kind == s.Kind && last.Namespace == s.Namespace && last.Name == s.Name {
			last.Parents = append(last.Parents, s.Parents...)
			return
		}
	}
	t.RouteStatuses = append(t.RouteStatuses, s)
}

// parentStatus returns the status of a parent. problem says why the parent was not
// found; "" means that it was.
func (d *routeDraft) parentStatus(ref *gatewayv1.ParentReference, problem string) gatewayv1.RouteParentStatus {
	accepted := verdict{gatewayv1.RouteReasonAccepted, "in effect"}
	isAccepted := false
	switch {
	case problem != "":
		accepted = verdict{gatewayv1.RouteReasonNoMatchingParent, problem}
	case len(d.rejected) > 0:
		accepted = join(d.rejected)
		accepted.text += "; the requests that this is for are answered 500"
	default:
		isAccepted = true
		if len(d.ignored) > 0 {
			accepted.text += "; ignored: " + strings.Join(d.ignored, ", ")
		}
	}
	resolved, isResolved := verdict{gatewayv1.RouteReasonResolvedRefs, "all references lead somewhere"}, true
	if len(d.unresolved) > 0 {
		resolved, isResolved = join(d.unresolved), false
	}
	return gatewayv1.RouteParentStatus{
		ParentRef: *ref.DeepCopy(), ControllerName: ControllerName,
		Conditions: []metav1.Condition{
			condition(gatewayv1.RouteConditionAccepted, isAccepted, accepted, d.meta.Generation),
			condition(gatewayv1.RouteConditionResolvedRefs, isResolved, resolved, d.meta.Generation),
		},
	}
}

// maxMessage is the API's limit on the length of a condition's message.
const maxMessage = 32768

func condition(kind gatewayv1.RouteConditionType, is bool, v verdict, generation int64) metav1.Condition {
	status := metav1.ConditionFalse
	if is {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{
		Type: string(kind), Status: status, Reason: string(v.reason),
		Message: strings.ToValidUTF8(v.text[:min(len(v.text), maxMessage)], ""), ObservedGeneration: generation,
	}
}

// join combines several verdicts into one: the reason of the first, and the texts
// of all.
func join(all []verdict) verdict {
	texts := make([]string, len(all))
	for i, v := range all {
		texts[i] = v.text
	}
	return verdict{all[0].reason, strings.Join(slices.Compact(texts), "; ")}
}
