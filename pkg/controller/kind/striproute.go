package kind

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayx "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/underlane/underlane/pkg/controller/custom"
)

func stripRouteMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, Generation: m.Generation, CreationTimestamp: m.CreationTimestamp,
		Annotations: stripAnnotations(m.Annotations),
	}
}

func stripHTTPRoute(r *gatewayv1.HTTPRoute) *gatewayv1.HTTPRoute {
	return &gatewayv1.HTTPRoute{ObjectMeta: stripRouteMeta(r.ObjectMeta), Spec: r.Spec, Status: r.Status}
}

func stripGRPCRoute(r *gatewayv1.GRPCRoute) *gatewayv1.GRPCRoute {
	return &gatewayv1.GRPCRoute{ObjectMeta: stripRouteMeta(r.ObjectMeta), Spec: r.Spec, Status: r.Status}
}

func stripTLSRoute(r *gatewayv1.TLSRoute) *gatewayv1.TLSRoute {
	return &gatewayv1.TLSRoute{ObjectMeta: stripRouteMeta(r.ObjectMeta), Spec: r.Spec, Status: r.Status}
}

func stripTCPRoute(r *gatewayv1.TCPRoute) *gatewayv1.TCPRoute {
	return &gatewayv1.TCPRoute{ObjectMeta: stripRouteMeta(r.ObjectMeta), Spec: r.Spec, Status: r.Status}
}

func stripEgressNetwork(n *custom.EgressNetwork) *custom.EgressNetwork {
	return &custom.EgressNetwork{ObjectMeta: stripRouteMeta(n.ObjectMeta), Spec: n.Spec, Status: n.Status}
}

func stripTrafficPolicy(p *gatewayx.XBackendTrafficPolicy) *gatewayx.XBackendTrafficPolicy {
	return &gatewayx.XBackendTrafficPolicy{ObjectMeta: stripRouteMeta(p.ObjectMeta), Spec: p.Spec, Status: p.Status}
}

func stripTrafficSplit(s *custom.TrafficSplit) *custom.TrafficSplit {
	return &custom.TrafficSplit{ObjectMeta: stripRouteMeta(s.ObjectMeta), Spec: s.Spec}
}

func stripRouteGroup(g *custom.HTTPRouteGroup) *custom.HTTPRouteGroup {
	return &custom.HTTPRouteGroup{ObjectMeta: stripRouteMeta(g.ObjectMeta), Spec: g.Spec, Matches: g.Matches}
}

func stripFault(f *custom.HTTPFault) *custom.HTTPFault {
	return &custom.HTTPFault{ObjectMeta: stripRouteMeta(f.ObjectMeta), Spec: f.Spec}
}

// stripPolicy sets the kind: the client of an API server leaves it out of the objects that
// it watches.
func stripPolicy(p *custom.PolicyObject, r *custom.Resource) *custom.PolicyObject {
	out := &custom.PolicyObject{ObjectMeta: stripRouteMeta(p.ObjectMeta), Spec: p.Spec}
	if r.HasStatus() {
		out.Status = p.Status
	}
	out.APIVersion, out.Kind = r.Group+"/"+r.Versions[0], r.Kind
	if r.Kind == custom.LinkerdServers.Kind {
		out.Labels = p.Labels // a ServerAuthorization selects Servers by them
	}
	return out
}
