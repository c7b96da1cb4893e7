package translate

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayx "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/underlane/underlane/pkg/controller/custom"
)

// Change is an object that is new, has changed, or is gone.
type Change struct {
	Object metav1.Object // of one of the types in Objects
	Gone   bool
}

// Batch is what has changed of Objects.
type Batch struct {
	Changes        []Change
	ForeignUnknown bool // that of the Objects now
}

// Diff returns what has changed from one state to the next. Objects are the same if they are
// the same pointer. from may be nil. The time it takes grows with the size of both.
func Diff(from, to *Objects) Batch {
	if from == nil {
		from = &Objects{}
	}
	b := Batch{ForeignUnknown: to.ForeignUnknown}
	diff(&b, from.Namespaces, to.Namespaces)
	diff(&b, from.Nodes, to.Nodes)
	diff(&b, from.NetworkPolicies, to.NetworkPolicies)
	diff(&b, from.ForeignPolicies, to.ForeignPolicies)
	diff(&b, from.PolicyObjects, to.PolicyObjects)
	diff(&b, from.Pods, to.Pods)
	diff(&b, from.Services, to.Services)
	diff(&b, from.EndpointSlices, to.EndpointSlices)
	diff(&b, from.HTTPFaults, to.HTTPFaults)
	diff(&b, from.HTTPRouteGroups, to.HTTPRouteGroups)
	diff(&b, from.EgressNetworks, to.EgressNetworks)
	diff(&b, from.HTTPRoutes, to.HTTPRoutes)
	diff(&b, from.GRPCRoutes, to.GRPCRoutes)
	diff(&b, from.TLSRoutes, to.TLSRoutes)
	diff(&b, from.TCPRoutes, to.TCPRoutes)
	diff(&b, from.TrafficPolicies, to.TrafficPolicies)
	diff(&b, from.TrafficSplits, to.TrafficSplits)
	return b
}

func diff[T interface {
	comparable
	metav1.Object
}](b *Batch, from, to []T) {
	if len(from) > 0 {
		there := make(map[T]struct{}, len(to))
		for _, o := range to {
			there[o] = struct{}{}
		}
		for _, o := range from {
			if _, is := there[o]; !is {
				b.Changes = append(b.Changes, Change{Object: o, Gone: true})
			}
		}
	}
	was := make(map[T]struct{}, len(from))
	for _, o := range from {
		was[o] = struct{}{}
	}
	for _, o := range to {
		if _, is := was[o]; !is {
			b.Changes = append(b.Changes, Change{Object: o})
		}
	}
}

// objectKey names an object among all.
type objectKey struct{ kind, namespace, name string }

const kindPod = "Pod"

// keyOf returns the kind of an object by its type; that of a policy is qualified, and that of
// a policy of a CNI is, too.
func keyOf(o metav1.Object) (k objectKey) {
	k.namespace, k.name = o.GetNamespace(), o.GetName()
	switch o := o.(type) {
	case *corev1.Namespace:
		k.kind = "Namespace"
	case *corev1.Node:
		k.kind = "Node"
	case *Pod:
		k.kind = kindPod
	case *corev1.Service:
		k.kind = KindService
	case *discoveryv1.EndpointSlice:
		k.kind = "EndpointSlice"
	case *networkingv1.NetworkPolicy:
		k.kind = "NetworkPolicy"
	case *gatewayv1.HTTPRoute:
		k.kind = KindHTTPRoute
	case *gatewayv1.GRPCRoute:
		k.kind = KindGRPCRoute
	case *gatewayv1.TLSRoute:
		k.kind = KindTLSRoute
	case *gatewayv1.TCPRoute:
		k.kind = KindTCPRoute
	case *custom.EgressNetwork:
		k.kind = KindEgressNetwork
	case *gatewayx.XBackendTrafficPolicy:
		k.kind = custom.BackendTrafficPolicies.Kind
	case *custom.TrafficSplit:
		k.kind = custom.TrafficSplits.Kind
	case *custom.HTTPRouteGroup:
		k.kind = custom.HTTPRouteGroups.Kind
	case *custom.HTTPFault:
		k.kind = custom.HTTPFaults.Kind
	case *custom.PolicyObject:
		k.kind = o.QualifiedKind()
	case *metav1.PartialObjectMetadata:
		k.kind = o.Kind + "." + o.GroupVersionKind().Group
	}
	return k
}
