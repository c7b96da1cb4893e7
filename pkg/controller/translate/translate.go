// Package translate converts Kubernetes objects to the mesh's own values. It is a
// pure function: the same objects always give the same result, in the same order.
package translate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

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
	Pods            []*corev1.Pod
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

func translate(o *Objects, c Config) Result {
	t := &translation{
		config:      c,
		namespaces:  map[string]*namespace{},
		zones:       make(map[string]string, len(o.Nodes)),
		pods:        map[string][]*pod{},
		byName:      map[string]*pod{},
		byAddr:      map[netip.Addr]*pod{},
		services:    make(map[string]*mesh.Service, len(o.Services)),
		policies:    map[*mesh.Service]requestPolicy{},
		routeGroups: map[string]*custom.HTTPRouteGroup{},
		faults:      map[string]*custom.HTTPFault{},
		egress:      map[string]*mesh.EgressNetwork{},
	}
	for _, n := range o.Nodes {
		t.zones[n.Name] = n.Labels[corev1.LabelTopologyZone]
		t.addNode(n)
	}
	for _, ns := range o.Namespaces {
		t.addNamespace(ns)
	}
	for _, np := range o.NetworkPolicies {
		t.addNetworkPolicy(np)
	}
	t.addForeignPolicies(o)
	for _, p := range o.Pods {
		t.addPod(p)
	}
	t.indexAddresses()
	t.addPolicies(o)
	bySvc := slicesByService(o.EndpointSlices)
	for _, s := range o.Services {
		t.addService(s, bySvc[key(s.Namespace, s.Name)])
	}
	t.settleClaims()
	t.addTrafficPolicies(o.TrafficPolicies)
	for _, f := range o.HTTPFaults {
		t.faults[key(f.Namespace, f.Name)] = f
	}
	for _, n := range o.EgressNetworks {
		t.addEgressNetwork(n)
	}
	for _, r := range o.HTTPRoutes {
		t.addHTTPRoute(r)
	}
	for _, r := range o.GRPCRoutes {
		t.addGRPCRoute(r)
	}
	for _, r := range o.TLSRoutes {
		t.addTLSRoute(r)
	}
	for _, r := range o.TCPRoutes {
		t.addTCPRoute(r)
	}
	for _, g := range o.HTTPRouteGroups {
		t.routeGroups[key(g.Namespace, g.Name)] = g
	}
	t.addTrafficSplits(o.TrafficSplits)
	t.addServiceRoutes()
	return t.sorted()
}

// translation is the state of one call of Translate.
type translation struct {
	Result
	config      Config
	wire        bool // no pod may use the same-node shortcut
	namespaces  map[string]*namespace
	zones       map[string]string // by node
	pods        map[string][]*pod // by namespace
	byName      map[string]*pod
	byAddr      map[netip.Addr]*pod
	services    map[string]*mesh.Service // nil for one of type ExternalName
	claims      []claim                  // to external addresses
	policies    map[*mesh.Service]requestPolicy
	routeGroups map[string]*custom.HTTPRouteGroup
	faults      map[string]*custom.HTTPFault
	egress      map[string]*mesh.EgressNetwork // by namespace and name
}

// pod is a Pod and the workload that was made from it.
type pod struct {
	*corev1.Pod
	workload *mesh.Workload
	mode     defaultMode
}

func (t *translation) problem(kind, namespace, name, format string, args ...any) {
	t.Problems = append(t.Problems, Problem{
		Kind: kind, Namespace: namespace, Name: name, Reason: fmt.Sprintf(format, args...),
	})
}

func (t *translation) sorted() Result {
	slices.SortFunc(t.Workloads, func(a, b *mesh.Workload) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(t.Services, func(a, b *mesh.Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(t.Egress, func(a, b *mesh.EgressNetwork) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(t.Nodes, netip.Addr.Compare)
	slices.SortFunc(t.Routes, compareRoutes)
	slices.SortStableFunc(t.RouteStatuses, func(a, b RouteStatus) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	t.RouteStatuses = joined(t.RouteStatuses)
	slices.SortFunc(t.Problems, func(a, b Problem) int { return cmp.Compare(a.String(), b.String()) })
	t.Problems = slices.Compact(t.Problems) // an endpoint's address is checked once per port
	return t.Result
}

func key(namespace, name string) string { return namespace + "/" + name }
