package translate

import (
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/policyobject"
)

// kindLinkerdHTTPRoute is the kind of Linkerd's own HTTPRoutes. Its spec has fields of the
// Gateway API's HTTPRoute only.
var kindLinkerdHTTPRoute = custom.LinkerdHTTPRoutes.Kind + "." + custom.LinkerdGroup

// addLinkerdHTTPRoute translates an HTTPRoute of policy.linkerd.io for its parents that are
// Services or EgressNetworks. Those that are Servers are in linkerdFront.
func (t *translation) addLinkerdHTTPRoute(o *custom.PolicyObject) {
	spec, unknown := policyobject.Read[gatewayv1.HTTPRouteSpec](specOf(o))
	if !slices.ContainsFunc(spec.ParentRefs, func(r gatewayv1.ParentReference) bool {
		return isServiceParent(&r) || isEgressParent(&r) || isServerParent(r)
	}) {
		for _, field := range unknown.All() { // the parent may be what was not read
			t.problem(kindLinkerdHTTPRoute, o.Namespace, o.Name, "the field %s is not known", field)
		}
	}
	t.addHTTPSpec(kindLinkerdHTTPRoute, &o.ObjectMeta, &spec, unknown.All())
}

// distrust makes rules refuse that have fields which are not known, and all rules if such a
// field is in none of them: what the field says must not be skipped.
func (d *routeDraft) distrust(unknown []string) {
	for _, field := range unknown {
		why := "the field " + field + " is not known"
		d.reject(gatewayv1.RouteReasonUnsupportedValue, "%s", why)
		d.refusals++
		d.rules = policyobject.Distrust(d.rules, field, why, false)
	}
}
