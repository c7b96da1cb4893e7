package translate

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayx "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Objects are the Kubernetes objects of a cluster that the mesh reads. They must
// not be changed.
type Objects struct {
	Namespaces      []*corev1.Namespace
	Nodes           []*corev1.Node
	Pods            []*Pod
	Services        []*corev1.Service
	EndpointSlices  []*discoveryv1.EndpointSlice
	NetworkPolicies []*networkingv1.NetworkPolicy
	HTTPRoutes      []*gatewayv1.HTTPRoute
	GRPCRoutes      []*gatewayv1.GRPCRoute
	TLSRoutes       []*gatewayv1.TLSRoute
	TCPRoutes       []*gatewayv1.TCPRoute
	EgressNetworks  []*custom.EgressNetwork
	TrafficPolicies []*gatewayx.XBackendTrafficPolicy
	TrafficSplits   []*custom.TrafficSplit
	HTTPRouteGroups []*custom.HTTPRouteGroup
	HTTPFaults      []*custom.HTTPFault
	PolicyObjects   []*custom.PolicyObject
	// ForeignPolicies are policies that a CNI enforces, and of which only the metadata is
	// known: custom.ForeignPolicies.
	ForeignPolicies []*metav1.PartialObjectMetadata
	// ForeignUnknown: there may be others that could not be listed.
	ForeignUnknown bool
}

// Result is the translation of the objects. Workloads and Services are sorted by
// namespace and name. Endpoints point to the values in Workloads. Routes are sorted
// by their parent.
type Result struct {
	Workloads []*mesh.Workload
	Services  []*mesh.Service
	Routes    []*mesh.Route
	Authz     map[string]*authz.Spec // authorization policies of workloads, by UID
	Egress    []*mesh.EgressNetwork
	Nodes     []netip.Addr // the internal addresses of the nodes, sorted
	// RouteStatuses are those of all routes that have a Service or an EgressNetwork as
	// parent, of policies that have a Service as target, of authorization policies that
	// have a status, and of EgressNetworks.
	RouteStatuses []RouteStatus
	Problems      []Problem
}

// Problem is an invalid part of an object, which is ignored.
type Problem struct {
	// Of the object. The Kind of a policy is qualified, KIND.GROUP. Namespace is empty for a
	// Namespace.
	Kind, Namespace, Name string
	Reason                string
}

func (p Problem) String() string {
	if p.Namespace == "" {
		return fmt.Sprintf("%s %s: %s", p.Kind, p.Name, p.Reason)
	}
	return fmt.Sprintf("%s %s/%s: %s", p.Kind, p.Namespace, p.Name, p.Reason)
}

// translation is the translation of one object, or of one value: what it says is in Result,
// and what it looks at becomes an edge from there.
type translation struct {
	report
	lookups
	config *Config
}

// report is what a translation says.
type report struct{ Result }

// lookups find the objects that others name.
type lookups struct{ from *Translator }

// pod is a Pod and the workload that was made from it.
type pod struct {
	*Pod
	workload *mesh.Workload
	mode     defaultMode
	unread   []authz.Limit // in place of rates in annotations that are not understood
}

func (t *report) problem(kind, namespace, name, format string, args ...any) {
	t.Problems = append(t.Problems, Problem{
		Kind: kind, Namespace: namespace, Name: name, Reason: fmt.Sprintf(format, args...),
	})
}

// service finds a Service, without its endpoints. It is nil for one of type ExternalName.
func (t *lookups) service(namespace, service string) (out *mesh.Service, known bool) {
	s := t.from.shape(name{namespace, service})
	switch {
	case s == nil:
		return nil, false
	case s.external:
		return nil, true
	}
	return &s.svc, true
}

func (t *lookups) fault(namespace, fault string) *custom.HTTPFault {
	return input[*custom.HTTPFault](t.from, objectKey{custom.HTTPFaults.Kind, namespace, fault})
}

func (t *lookups) routeGroup(namespace, group string) *custom.HTTPRouteGroup {
	return input[*custom.HTTPRouteGroup](t.from, objectKey{custom.HTTPRouteGroups.Kind, namespace, group})
}

func (t *lookups) hasEgress(namespace, network string) bool {
	return input[*custom.EgressNetwork](t.from, objectKey{KindEgressNetwork, namespace, network}) != nil
}

func key(namespace, name string) string { return namespace + "/" + name }
