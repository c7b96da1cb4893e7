package translate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/mesh"
)

// Kinds of routes.
const (
	KindHTTPRoute = "HTTPRoute"
	KindGRPCRoute = "GRPCRoute"
	KindTLSRoute  = "TLSRoute"
	KindTCPRoute  = "TCPRoute"
	// KindService is the kind of the routes that are made from a Service's
	// annotations.
	KindService = "Service"
)

// routeDraft is a route during its translation, with its problems.
type routeDraft struct {
	t     *translation
	kind  string
	meta  *metav1.ObjectMeta
	rules []mesh.RouteRule
	// policy has the annotations' values, for rules that do not set their own.
	policy requestPolicy
	// egress is the EgressNetwork that is the parent of this draft; nil: Services are.
	egress *mesh.ServicePortRef
	layer  mesh.RouteLayer

	verdicts
}

// verdicts are the problems of a route, as its parts are read.
type verdicts struct {
	rejected   []verdict // why the route cannot be used as it is
	unresolved []verdict // references that do not resolve
	ignored    []string  // fields that have no effect
	// refusals is the number of entries in rejected for which rules already refuse requests.
	refusals int
}

func (t *translation) draft(kind string, meta *metav1.ObjectMeta) *routeDraft {
	d := &routeDraft{t: t, kind: kind, meta: meta}
	var problems []string
	d.policy, problems = requestPolicyOf(meta.Annotations)
	for _, p := range problems {
		d.ignore("%s", p)
	}
	return d
}

// verdict is the reason of a condition, and a text for users.
type verdict struct {
	reason gatewayv1.RouteConditionReason
	text   string
}

func (d *verdicts) reject(reason gatewayv1.RouteConditionReason, format string, args ...any) {
	d.rejected = append(d.rejected, verdict{reason, fmt.Sprintf(format, args...)})
}

func (d *verdicts) ignore(format string, args ...any) {
	d.ignored = append(d.ignored, fmt.Sprintf(format, args...))
}

func (t *translation) addHTTPRoute(r *gatewayv1.HTTPRoute) {
	t.addHTTPSpec(KindHTTPRoute, &r.ObjectMeta, &r.Spec, custom.UnknownFields(r))
}

// addHTTPSpec translates a route for its parents that are Services or EgressNetworks. unknown
// are its fields that are not known.
func (t *translation) addHTTPSpec(kind string, meta *metav1.ObjectMeta, spec *gatewayv1.HTTPRouteSpec, unknown []string) {
	rules := func(d *routeDraft) {
		for i := range spec.Rules {
			d.add(func(where string) mesh.RouteRule { return d.httpRule(&spec.Rules[i], where) })
		}
		d.distrust(unknown)
	}
	t.eachEgressParent(kind, meta, spec.ParentRefs, spec.Hostnames, rules)
	if !hasServiceParent(spec.ParentRefs) {
		return
	}
	d := t.draft(kind, meta)
	rules(d)
	d.finish(spec.ParentRefs, spec.Hostnames)
}

func (t *translation) addGRPCRoute(r *gatewayv1.GRPCRoute) {
	rules := func(d *routeDraft) {
		for i := range r.Spec.Rules {
			d.add(func(where string) mesh.RouteRule { return d.grpcRule(&r.Spec.Rules[i], where) })
		}
		d.distrust(custom.UnknownFields(r))
	}
	t.eachEgressParent(KindGRPCRoute, &r.ObjectMeta, r.Spec.ParentRefs, r.Spec.Hostnames, rules)
	if !hasServiceParent(r.Spec.ParentRefs) {
		return
	}
	d := t.draft(KindGRPCRoute, &r.ObjectMeta)
	rules(d)
	d.finish(r.Spec.ParentRefs, r.Spec.Hostnames)
}

// finish makes a mesh.Route for each parent that is a Service, or for the parents of a draft
// with an EgressNetwork, and adds the route's status.
func (d *routeDraft) finish(parents []gatewayv1.ParentReference, hostnames []gatewayv1.Hostname) {
	if len(hostnames) > 0 && d.egress == nil {
		d.ignore("hostnames") // reserved by GEP-1294
	}
	if d.egress != nil {
		d.outwards()
	}
	base := mesh.Route{
		GRPC: d.kind == KindGRPCRoute, Kind: d.kind, Namespace: d.meta.Namespace, Name: d.meta.Name,
		Created: d.meta.CreationTimestamp.UTC(), Rules: d.rules, Layer: d.layer, Egress: d.egress != nil,
	}
	if d.egress != nil {
		for _, h := range hostnames {
			base.Hostnames = append(base.Hostnames, string(h))
		}
	}
	d.closeWhole(&base)
	status := RouteStatus{Kind: d.kind, Namespace: d.meta.Namespace, Name: d.meta.Name}
	for i := range parents {
		ref := &parents[i]
		find := d.parent
		if d.egress != nil {
			find = d.egressParent
		} else if !isServiceParent(ref) {
			continue
		}
		at, problem := find(ref)
		if problem == "" && !d.has(at) {
			r := base
			r.Parent = at
			d.t.Routes = append(d.t.Routes, &r)
		}
		status.Parents = append(status.Parents, d.parentStatus(ref, problem))
		if problem != "" {
			d.problem("parentRefs[%d]: %s", i, problem)
		}
	}
	d.t.addRouteStatus(status)
	for _, v := range slices.Concat(d.rejected, d.unresolved) {
		d.problem("%s", v.text)
	}
	for _, field := range d.ignored {
		d.problem("%s: ignored", field)
	}
}

func (d *routeDraft) problem(format string, args ...any) {
	d.t.problem(d.kind, d.meta.Namespace, d.meta.Name, format, args...)
}

// has reports whether the object already has a route for this parent.
func (d *routeDraft) has(parent mesh.ServicePortRef) bool {
	all := d.t.Routes
	for i := len(all) - 1; i >= 0; i-- {
		if r := all[i]; r.Kind != d.kind || r.Namespace != d.meta.Namespace || r.Name != d.meta.Name {
			return false // the routes of one object are adjacent
		}
		if all[i].Parent == parent && all[i].Egress == (d.egress != nil) {
			return true
		}
	}
	return false
}

func hasServiceParent(refs []gatewayv1.ParentReference) bool {
	return slices.ContainsFunc(refs, func(r gatewayv1.ParentReference) bool { return isServiceParent(&r) })
}

// isServiceParent reports whether a parent is a Service. Other controllers handle
// other parents, mainly Gateways.
func isServiceParent(ref *gatewayv1.ParentReference) bool {
	return ref.Kind != nil && *ref.Kind == "Service" && ref.Group != nil && isCore(*ref.Group)
}

// isCore reports whether group is the group of Services. Its name is empty;
// Linkerd's users write "core".
func isCore(group gatewayv1.Group) bool { return group == "" || group == "core" }

// parent finds the Service and port of ref. problem says why they were not found.
func (d *routeDraft) parent(ref *gatewayv1.ParentReference) (at mesh.ServicePortRef, problem string) {
	at = mesh.ServicePortRef{Namespace: d.meta.Namespace, Name: string(ref.Name)}
	if ref.Namespace != nil {
		at.Namespace = string(*ref.Namespace)
	}
	svc, known := d.t.service(at.Namespace, at.Name)
	switch {
	case !known:
		return at, fmt.Sprintf("there is no Service %s/%s", at.Namespace, at.Name)
	case svc == nil:
		return at, fmt.Sprintf("Service %s/%s is of type ExternalName", at.Namespace, at.Name)
	case len(svc.VIPs) == 0:
		return at, fmt.Sprintf("Service %s/%s has no cluster IP that requests could be sent to", at.Namespace, at.Name)
	case ref.Port == nil && ref.SectionName == nil:
		return at, ""
	}
	for i := range svc.Ports {
		p := &svc.Ports[i]
		if (ref.Port == nil || *ref.Port == int32(p.Port)) && (ref.SectionName == nil || string(*ref.SectionName) == p.Name) {
			at.Port = p.Port
			return at, ""
		}
	}
	return at, fmt.Sprintf("Service %s/%s has no such TCP port", at.Namespace, at.Name)
}

// backend finds the Service and port of ref. If they do not exist, why is not empty
// and the reference is recorded as unresolved. A reference into another namespace
// needs no ReferenceGrant, because every client in the mesh can send requests there
// without a route (GEP-1294).
func (d *routeDraft) backend(ref *gatewayv1.BackendObjectReference, where string) (at mesh.ServicePortRef, why string) {
	at = mesh.ServicePortRef{Namespace: d.meta.Namespace, Name: string(ref.Name)}
	if ref.Namespace != nil {
		at.Namespace = string(*ref.Namespace)
	}
	if ref.Port != nil && *ref.Port >= 1 && *ref.Port <= math.MaxUint16 {
		at.Port = uint16(*ref.Port)
	}
	reason := gatewayv1.RouteReasonBackendNotFound
	svc, known := d.t.service(at.Namespace, at.Name)
	switch {
	case ref.Group != nil && !isCore(*ref.Group), ref.Kind != nil && *ref.Kind != "Service":
		reason, why = gatewayv1.RouteReasonInvalidKind, fmt.Sprintf("a backend is a Service, not a %s", kindOf(ref))
	case at.Port == 0:
		why = fmt.Sprintf("no port of Service %s/%s is given", at.Namespace, at.Name)
	case !known:
		why = fmt.Sprintf("there is no Service %s/%s", at.Namespace, at.Name)
	case svc == nil:
		reason, why = gatewayv1.RouteReasonInvalidKind, fmt.Sprintf("Service %s/%s is of type ExternalName", at.Namespace, at.Name)
	case !hasPort(svc, at.Port):
		why = fmt.Sprintf("Service %s/%s has no TCP port %d", at.Namespace, at.Name, at.Port)
	}
	if why != "" {
		d.unresolved = append(d.unresolved, verdict{reason, where + ": " + why})
	}
	return at, why
}

func hasPort(svc *mesh.Service, port uint16) bool {
	return slices.ContainsFunc(svc.Ports, func(p mesh.ServicePort) bool { return p.Port == port })
}

func kindOf(ref *gatewayv1.BackendObjectReference) string {
	kind := "Service"
	if ref.Kind != nil {
		kind = string(*ref.Kind)
	}
	if ref.Group != nil && *ref.Group != "" {
		kind += "." + string(*ref.Group)
	}
	return kind
}

func compareRoutes(a, b *mesh.Route) int {
	return cmp.Or(
		strings.Compare(a.Parent.Namespace, b.Parent.Namespace), strings.Compare(a.Parent.Name, b.Parent.Name),
		strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name),
		strings.Compare(a.Kind, b.Kind), cmp.Compare(a.Parent.Port, b.Parent.Port),
	)
}
