package translate

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/linkerdpolicy"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// serverProblems are those of routes and limits that have a Server as parent or target, by the
// object's name as problems have it.
type serverProblems map[string][]string

func (s serverProblems) add(p authz.Problem) {
	if text := p.Field + ": " + p.Text; !slices.Contains(s[p.Policy], text) {
		s[p.Policy] = append(s[p.Policy], text)
	}
}

// addServerRouteStatuses adds the status of routes for their parents that are Servers.
func addServerRouteStatuses(t *translation, all *linkerdpolicy.Objects, problems serverProblems) {
	for i := range all.AllRoutes {
		addServerRouteStatus(t, &all.AllRoutes[i], all, problems)
	}
}

func addServerRouteStatus(t *translation, r *linkerdpolicy.Route, all *linkerdpolicy.Objects, problems serverProblems) {
	status := RouteStatus{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
	if r.Group != gatewayv1.GroupName {
		status.Kind = r.Kind + "." + r.Group
	}
	for i := range r.Spec.ParentRefs {
		ref := &r.Spec.ParentRefs[i]
		if !ref.IsServer() {
			continue
		}
		accepted, is := verdict{gatewayv1.RouteReasonAccepted, "in effect"}, true
		if ref.Namespace != nil && *ref.Namespace != r.Namespace {
			accepted, is = verdict{gatewayv1.RouteReasonNoMatchingParent, "the Server is of another namespace"}, false
		} else if why := all.Attach(r.Kind, r.Namespace, ref.Name); why != "" {
			accepted, is = verdict{gatewayv1.RouteReasonNoMatchingParent, why}, false
		} else if wrong := problems[r.String()]; len(wrong) > 0 {
			accepted, is = verdict{gatewayv1.RouteReasonUnsupportedValue, strings.Join(wrong, "; ")}, false
		}
		status.Parents = append(status.Parents, gatewayv1.RouteParentStatus{
			ParentRef: parentReference(ref), ControllerName: ControllerName,
			Conditions: []metav1.Condition{
				condition(gatewayv1.RouteConditionAccepted, is, accepted, r.Generation),
				condition(gatewayv1.RouteConditionResolvedRefs, true, verdict{gatewayv1.RouteReasonResolvedRefs, "backends of a Server's route are not used"}, r.Generation),
			},
		})
	}
	if len(status.Parents) > 0 {
		t.addRouteStatus(status)
	}
}

func parentReference(p *linkerdpolicy.ParentRef) gatewayv1.ParentReference {
	out := gatewayv1.ParentReference{
		Group: (*gatewayv1.Group)(p.Group), Kind: (*gatewayv1.Kind)(p.Kind), Namespace: (*gatewayv1.Namespace)(p.Namespace),
		Name: gatewayv1.ObjectName(p.Name), SectionName: (*gatewayv1.SectionName)(p.SectionName),
	}
	if p.Port != nil {
		port := gatewayv1.PortNumber(*p.Port)
		out.Port = &port
	}
	return out
}

// kindLinkerdRateLimit is the kind of Linkerd's limits of requests.
var kindLinkerdRateLimit = custom.LinkerdRateLimits.Kind + "." + custom.LinkerdGroup

// addRateLimitStatuses adds the status of HTTPLocalRateLimitPolicies, in the words of Linkerd's
// controller, which may write the same condition. The parent is the target.
func addRateLimitStatuses(t *translation, all *linkerdpolicy.Objects, problems serverProblems) {
	for i := range all.RateLimits {
		p := &all.RateLimits[i]
		accepted, is := verdict{gatewayv1.RouteReasonAccepted, ""}, true
		if reason := all.Refused(p); reason != "" {
			accepted, is = verdict{reason: gatewayv1.RouteConditionReason(reason)}, false
		} else if wrong := problems[p.String()]; len(wrong) > 0 {
			accepted, is = verdict{"Invalid", strings.Join(wrong, "; ")}, false
		}
		target := p.Spec.TargetRef
		group, kind := gatewayv1.Group(target.Group), gatewayv1.Kind(target.Kind)
		t.addRouteStatus(RouteStatus{
			Kind: kindLinkerdRateLimit, Namespace: p.Namespace, Name: p.Name,
			Parents: []gatewayv1.RouteParentStatus{{
				ParentRef: gatewayv1.ParentReference{Group: &group, Kind: &kind, Name: gatewayv1.ObjectName(target.Name)}, ControllerName: ControllerName,
				// Without a generation: the definition has no place for it.
				Conditions: []metav1.Condition{condition(gatewayv1.RouteConditionAccepted, is, accepted, 0)},
			}},
		})
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
