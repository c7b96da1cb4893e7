package translate

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/linkerdpolicy"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// serverRouteProblems are those of routes that have a Server as parent, by the route's name as
// problems have it.
type serverRouteProblems map[string][]string

func (s serverRouteProblems) add(p authz.Problem) {
	if text := p.Field + ": " + p.Text; !slices.Contains(s[p.Policy], text) {
		s[p.Policy] = append(s[p.Policy], text)
	}
}

// addServerRouteStatuses adds the status of the Gateway API's routes for their parents that are
// Servers.
func addServerRouteStatuses(t *translation, o *Objects, all *linkerdpolicy.Objects, problems serverRouteProblems) {
	for _, r := range o.HTTPRoutes {
		addServerRouteStatus(t, KindHTTPRoute, &r.ObjectMeta, r.Spec.ParentRefs, all, problems)
	}
	for _, r := range o.GRPCRoutes {
		addServerRouteStatus(t, KindGRPCRoute, &r.ObjectMeta, r.Spec.ParentRefs, all, problems)
	}
}

func addServerRouteStatus(t *translation, kind string, m *metav1.ObjectMeta, parents []gatewayv1.ParentReference, all *linkerdpolicy.Objects, problems serverRouteProblems) {
	status := RouteStatus{Kind: kind, Namespace: m.Namespace, Name: m.Name}
	for i := range parents {
		ref := &parents[i]
		if !isServerParent(*ref) {
			continue
		}
		accepted, is := verdict{gatewayv1.RouteReasonAccepted, "in effect"}, true
		policy := policyMeta(gatewayv1.GroupName, kind, m)
		if ref.Namespace != nil && string(*ref.Namespace) != m.Namespace {
			accepted, is = verdict{gatewayv1.RouteReasonNoMatchingParent, "the Server is of another namespace"}, false
		} else if why := all.Attach(kind, m.Namespace, string(ref.Name)); why != "" {
			accepted, is = verdict{gatewayv1.RouteReasonNoMatchingParent, why}, false
		} else if wrong := problems[policy.String()]; len(wrong) > 0 {
			accepted, is = verdict{gatewayv1.RouteReasonUnsupportedValue, strings.Join(wrong, "; ")}, false
		}
		status.Parents = append(status.Parents, gatewayv1.RouteParentStatus{
			ParentRef: *ref.DeepCopy(), ControllerName: ControllerName,
			Conditions: []metav1.Condition{
				condition(gatewayv1.RouteConditionAccepted, is, accepted, m.Generation),
				condition(gatewayv1.RouteConditionResolvedRefs, true, verdict{gatewayv1.RouteReasonResolvedRefs, "backends of a Server's route are not used"}, m.Generation),
			},
		})
	}
	if len(status.Parents) > 0 {
		t.addRouteStatus(status)
	}
}

// parentKind is the kind of the first parent: that of all that one unit speaks of.
func (s RouteStatus) parentKind() string {
	if len(s.Parents) == 0 || s.Parents[0].ParentRef.Kind == nil {
		return ""
	}
	return string(*s.Parents[0].ParentRef.Kind)
}

// joined joins the statuses of the same object, which follow each other.
func joined(all []RouteStatus) []RouteStatus {
	out := all[:0]
	for _, s := range all {
		if n := len(out); n > 0 && out[n-1].Kind == s.Kind && out[n-1].Namespace == s.Namespace && out[n-1].Name == s.Name {
			out[n-1].Parents = slices.Concat(out[n-1].Parents, s.Parents)
			continue
		}
		out = append(out, s)
	}
	return out
}
