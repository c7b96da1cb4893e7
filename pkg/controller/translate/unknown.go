package translate

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/policyobject"
	"github.com/underlane/underlane/pkg/mesh"
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
// field is in none of them: what the field says must not be skipped. A rule without a match
// that is not known would be about more requests than its author means.
func (d *routeDraft) distrust(unknown []string) {
	for _, field := range unknown {
		why := "the field " + field + " is not known"
		d.reject(gatewayv1.RouteReasonUnsupportedValue, "%s", why)
		d.refusals++
		i, inRule := ruleOf(field)
		if inRule && i < len(d.rules) {
			d.rules[i].Filters.Invalid = why
			distrustMatch(&d.rules[i], field)
			continue
		}
		if len(d.rules) == 0 {
			d.rules = []mesh.RouteRule{{}}
		}
		for i := range d.rules {
			d.rules[i].Filters.Invalid = why
		}
	}
}

// inMatch finds the part of a match in which a field is.
var inMatch = regexp.MustCompile(`^spec\.rules\[[0-9]+\]\.matches\[([0-9]+)\]\.(path|method|headers|queryParams)(?:\[([0-9]+)\])?\.`)

// distrustMatch makes every request fit the part of a match that has a field which is not known:
// the field may turn round what the part says.
func distrustMatch(r *mesh.RouteRule, field string) {
	m := inMatch.FindStringSubmatch(field)
	if m == nil {
		return
	}
	i, _ := strconv.Atoi(m[1])
	if i >= len(r.Matches) {
		return
	}
	match := &r.Matches[i]
	values := match.Headers
	switch m[2] {
	case "path", "method": // method has fields in GRPCRoutes only
		match.Path, match.GRPC = mesh.PathMatch{Kind: mesh.PathUnknown}, mesh.GRPCMethodMatch{}
		return
	case "queryParams":
		values = match.Query
	}
	if j, err := strconv.Atoi(m[3]); err == nil && j < len(values) {
		values[j].Unknown = true
	}
}

// ruleOf returns the index of the rule in which a field is.
func ruleOf(field string) (int, bool) {
	rest, ok := strings.CutPrefix(field, "spec.rules[")
	index, _, closed := strings.Cut(rest, "]")
	i, err := strconv.Atoi(index)
	return i, ok && closed && err == nil && i >= 0
}
