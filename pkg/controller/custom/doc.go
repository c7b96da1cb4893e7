// Package custom describes the resources of CustomResourceDefinitions: those of the
// Gateway API, of SMI, of Linkerd's and Istio's policies, and Underlane's own. It defines the Go types that no library
// provides.
package custom

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayx "sigs.k8s.io/gateway-api/apisx/v1alpha1"
)

// Groups.
const (
	GatewayGroup  = gatewayv1.GroupName
	GatewayXGroup = "gateway.networking.x-k8s.io"
	SplitGroup    = "split.smi-spec.io"
	SpecsGroup    = "specs.smi-spec.io"
	Group         = "underlane.io"        // Underlane's own
	PolicyGroup   = "policy.underlane.io" // Underlane's own policies
	LinkerdGroup  = "policy.linkerd.io"
	IstioGroup    = "security.istio.io"
)

// Resource is a resource of a group.
type Resource struct {
	Group    string
	Versions []string // supported versions, the preferred first
	Name     string   // plural, as in URLs
	Kind     string
}

// The resources. All versions of a resource use the same Go type.
var (
	HTTPRoutes             = Resource{GatewayGroup, []string{"v1"}, "httproutes", "HTTPRoute"}
	GRPCRoutes             = Resource{GatewayGroup, []string{"v1"}, "grpcroutes", "GRPCRoute"}
	TLSRoutes              = Resource{GatewayGroup, []string{"v1", "v1alpha3", "v1alpha2"}, "tlsroutes", "TLSRoute"}
	TCPRoutes              = Resource{GatewayGroup, []string{"v1", "v1alpha2"}, "tcproutes", "TCPRoute"}
	EgressNetworks         = Resource{LinkerdGroup, []string{"v1alpha1"}, "egressnetworks", "EgressNetwork"}
	BackendTrafficPolicies = Resource{GatewayXGroup, []string{"v1alpha1"}, "xbackendtrafficpolicies", "XBackendTrafficPolicy"}
	TrafficSplits          = Resource{SplitGroup, []string{"v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"}, "trafficsplits", "TrafficSplit"}
	HTTPRouteGroups        = Resource{SpecsGroup, []string{"v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"}, "httproutegroups", "HTTPRouteGroup"}
	LinkerdServers         = Resource{LinkerdGroup, []string{"v1beta3", "v1beta2", "v1beta1"}, "servers", "Server"}
	LinkerdPolicies        = Resource{LinkerdGroup, []string{"v1alpha1"}, "authorizationpolicies", "AuthorizationPolicy"}
	LinkerdMeshTLS         = Resource{LinkerdGroup, []string{"v1alpha1"}, "meshtlsauthentications", "MeshTLSAuthentication"}
	LinkerdNetworks        = Resource{LinkerdGroup, []string{"v1alpha1"}, "networkauthentications", "NetworkAuthentication"}
	Policies               = Resource{PolicyGroup, []string{"v1alpha1"}, "authorizationpolicies", "AuthorizationPolicy"}
	RateLimitPolicies      = Resource{PolicyGroup, []string{"v1alpha1"}, "ratelimitpolicies", "RateLimitPolicy"}
	IstioPolicies          = Resource{IstioGroup, []string{"v1", "v1beta1"}, "authorizationpolicies", "AuthorizationPolicy"}
	IstioPeers             = Resource{IstioGroup, []string{"v1", "v1beta1"}, "peerauthentications", "PeerAuthentication"}
	IstioRequests          = Resource{IstioGroup, []string{"v1", "v1beta1"}, "requestauthentications", "RequestAuthentication"}
	LinkerdServerAuthz     = Resource{LinkerdGroup, []string{"v1beta1"}, "serverauthorizations", "ServerAuthorization"}
	LinkerdRateLimits      = Resource{LinkerdGroup, []string{"v1alpha1"}, "httplocalratelimitpolicies", "HTTPLocalRateLimitPolicy"}
	LinkerdHTTPRoutes      = Resource{LinkerdGroup, []string{"v1beta3", "v1beta2", "v1beta1", "v1alpha1"}, "httproutes", "HTTPRoute"}
	HTTPFaults             = Resource{Group, []string{"v1alpha1"}, "httpfaults", "HTTPFault"}
)

// Resources are all of these resources.
var Resources = append([]Resource{HTTPRoutes, GRPCRoutes, TLSRoutes, TCPRoutes, EgressNetworks, BackendTrafficPolicies, TrafficSplits, HTTPRouteGroups, HTTPFaults}, PolicyObjects...)

// IsGroup reports whether the group has Resources.
func IsGroup(group string) bool {
	return slices.ContainsFunc(Resources, func(r Resource) bool { return r.Group == group })
}

// PolicyGroups are the groups of which every kind says who may do what: a kind that is not known
// here must not be without effect silently.
var PolicyGroups = []string{PolicyGroup, LinkerdGroup, IstioGroup}

// PolicyObjects are the resources whose objects are PolicyObjects.
var PolicyObjects = []Resource{
	LinkerdServers, LinkerdPolicies, LinkerdMeshTLS, LinkerdNetworks,
	Policies, RateLimitPolicies,
	IstioPolicies, IstioPeers, IstioRequests,
	LinkerdServerAuthz, LinkerdRateLimits, LinkerdHTTPRoutes,
}

// HasStatus reports whether Underlane writes the status of the policies of r. The definitions of
// most kinds of policy.linkerd.io have none.
func (r *Resource) HasStatus() bool {
	return r.Group != LinkerdGroup || r.Name == LinkerdHTTPRoutes.Name || r.Name == LinkerdRateLimits.Name
}

// GroupVersions returns the supported versions of r with its group.
func (r *Resource) GroupVersions() []schema.GroupVersion {
	out := make([]schema.GroupVersion, len(r.Versions))
	for i, v := range r.Versions {
		out[i] = schema.GroupVersion{Group: r.Group, Version: v}
	}
	return out
}

// Qualified returns the resource's name with its group, NAME.GROUP: several groups have a
// resource of one name.
func (r *Resource) Qualified() string { return r.Name + "." + r.Group }

// Install adds the types of all Resources to scheme.
func Install(scheme *runtime.Scheme) error {
	for _, install := range []func(*runtime.Scheme) error{gatewayv1.Install, gatewayx.Install} {
		if err := install(scheme); err != nil {
			return fmt.Errorf("types of the Gateway API: %w", err)
		}
	}
	add := func(r *Resource, object, list runtime.Object) {
		for _, gv := range r.GroupVersions() {
			scheme.AddKnownTypeWithName(gv.WithKind(r.Kind), object)
			scheme.AddKnownTypeWithName(gv.WithKind(r.Kind+"List"), list)
			metav1.AddToGroupVersion(scheme, gv)
		}
	}
	add(&TrafficSplits, &TrafficSplit{}, &TrafficSplitList{})
	add(&HTTPRouteGroups, &HTTPRouteGroup{}, &HTTPRouteGroupList{})
	add(&HTTPFaults, &HTTPFault{}, &HTTPFaultList{})
	add(&TLSRoutes, &gatewayv1.TLSRoute{}, &gatewayv1.TLSRouteList{})
	add(&TCPRoutes, &gatewayv1.TCPRoute{}, &gatewayv1.TCPRouteList{})
	add(&EgressNetworks, &EgressNetwork{}, &EgressNetworkList{})
	for i := range PolicyObjects {
		add(&PolicyObjects[i], &PolicyObject{}, &PolicyObjectList{})
	}
	return nil
}
