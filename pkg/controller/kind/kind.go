// Package kind describes the kinds of Kubernetes objects that the mesh reads: their
// resources, the fields that the mesh needs, and a store for the objects of each
// kind.
package kind

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayx "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/translate"
)

// All are the kinds of objects that the mesh reads. A new kind must be added here
// and to translate.Objects, and to package custom if a CustomResourceDefinition
// defines it.
var All = append([]Kind{
	&kind[*corev1.Namespace]{
		builtIn("", "namespaces", "Namespace", true), &corev1.Namespace{}, read(stripNamespace),
		func(o *translate.Objects) *[]*corev1.Namespace { return &o.Namespaces }, nil, nil,
	},
	&kind[*corev1.Node]{
		builtIn("", "nodes", "Node", true), &corev1.Node{}, read(stripNode),
		func(o *translate.Objects) *[]*corev1.Node { return &o.Nodes }, nil, nil,
	},
	&kind[*translate.Pod]{
		builtIn("", "pods", "Pod", false), &corev1.Pod{}, readPod,
		func(o *translate.Objects) *[]*translate.Pod { return &o.Pods }, samePod, sharePod,
	},
	&kind[*corev1.Service]{
		builtIn("", "services", "Service", false), &corev1.Service{}, read(stripService),
		func(o *translate.Objects) *[]*corev1.Service { return &o.Services }, nil, nil,
	},
	&kind[*discoveryv1.EndpointSlice]{
		builtIn(discoveryv1.GroupName, "endpointslices", "EndpointSlice", false), &discoveryv1.EndpointSlice{}, read(stripEndpointSlice),
		func(o *translate.Objects) *[]*discoveryv1.EndpointSlice { return &o.EndpointSlices }, sameSlice, shareSlice,
	},
	&kind[*networkingv1.NetworkPolicy]{
		builtIn(networkingv1.GroupName, "networkpolicies", "NetworkPolicy", false), &networkingv1.NetworkPolicy{}, read(stripNetworkPolicy),
		func(o *translate.Objects) *[]*networkingv1.NetworkPolicy { return &o.NetworkPolicies }, nil, nil,
	},
	&kind[*gatewayv1.HTTPRoute]{
		ofCRD(custom.HTTPRoutes), &gatewayv1.HTTPRoute{}, read(stripHTTPRoute),
		func(o *translate.Objects) *[]*gatewayv1.HTTPRoute { return &o.HTTPRoutes }, nil, nil,
	},
	&kind[*gatewayv1.GRPCRoute]{
		ofCRD(custom.GRPCRoutes), &gatewayv1.GRPCRoute{}, read(stripGRPCRoute),
		func(o *translate.Objects) *[]*gatewayv1.GRPCRoute { return &o.GRPCRoutes }, nil, nil,
	},
	&kind[*gatewayv1.TLSRoute]{
		ofCRD(custom.TLSRoutes), &gatewayv1.TLSRoute{}, read(stripTLSRoute),
		func(o *translate.Objects) *[]*gatewayv1.TLSRoute { return &o.TLSRoutes }, nil, nil,
	},
	&kind[*gatewayv1.TCPRoute]{
		ofCRD(custom.TCPRoutes), &gatewayv1.TCPRoute{}, read(stripTCPRoute),
		func(o *translate.Objects) *[]*gatewayv1.TCPRoute { return &o.TCPRoutes }, nil, nil,
	},
	&kind[*custom.EgressNetwork]{
		ofCRD(custom.EgressNetworks), &custom.EgressNetwork{}, read(stripEgressNetwork),
		func(o *translate.Objects) *[]*custom.EgressNetwork { return &o.EgressNetworks }, nil, nil,
	},
	&kind[*gatewayx.XBackendTrafficPolicy]{
		ofCRD(custom.BackendTrafficPolicies), &gatewayx.XBackendTrafficPolicy{}, read(stripTrafficPolicy),
		func(o *translate.Objects) *[]*gatewayx.XBackendTrafficPolicy { return &o.TrafficPolicies }, nil, nil,
	},
	&kind[*custom.TrafficSplit]{
		ofCRD(custom.TrafficSplits), &custom.TrafficSplit{}, read(stripTrafficSplit),
		func(o *translate.Objects) *[]*custom.TrafficSplit { return &o.TrafficSplits }, nil, nil,
	},
	&kind[*custom.HTTPRouteGroup]{
		ofCRD(custom.HTTPRouteGroups), &custom.HTTPRouteGroup{}, read(stripRouteGroup),
		func(o *translate.Objects) *[]*custom.HTTPRouteGroup { return &o.HTTPRouteGroups }, nil, nil,
	},
	&kind[*custom.HTTPFault]{
		ofCRD(custom.HTTPFaults), &custom.HTTPFault{}, read(stripFault),
		func(o *translate.Objects) *[]*custom.HTTPFault { return &o.HTTPFaults }, nil, nil,
	},
}, append(policyKinds(), foreignKinds()...)...)

// foreignKinds are the policies of CNIs, of which only the metadata is kept.
func foreignKinds() (out []Kind) {
	for _, r := range custom.ForeignPolicies {
		of := ofCRD(r)
		of.MetadataOnly = true
		empty := &metav1.PartialObjectMetadata{}
		empty.APIVersion, empty.Kind = r.GroupVersions()[0].String(), r.Kind
		out = append(out, &kind[*metav1.PartialObjectMetadata]{
			of, empty, read(func(o *metav1.PartialObjectMetadata) *metav1.PartialObjectMetadata {
				return &metav1.PartialObjectMetadata{TypeMeta: empty.TypeMeta, ObjectMeta: metav1.ObjectMeta{Name: o.Name, Namespace: o.Namespace, UID: o.UID}}
			}),
			func(o *translate.Objects) *[]*metav1.PartialObjectMetadata { return &o.ForeignPolicies }, nil, nil,
		})
	}
	return out
}

func policyKinds() (out []Kind) {
	for _, r := range custom.PolicyObjects {
		out = append(out, policyKind(r))
	}
	return out
}

// policyKind describes one of the kinds of policies, which share a Go type and a list.
func policyKind(r custom.Resource) Kind {
	empty := &custom.PolicyObject{}
	empty.APIVersion, empty.Kind = r.GroupVersions()[0].String(), r.Kind
	return &kind[*custom.PolicyObject]{
		ofCRD(r), empty, read(func(p *custom.PolicyObject) *custom.PolicyObject { return stripPolicy(p, &r) }),
		func(o *translate.Objects) *[]*custom.PolicyObject { return &o.PolicyObjects }, nil, nil,
	}
}

// kind describes one kind of objects.
type kind[T metav1.Object] struct {
	Resource
	empty metav1.Object                 // of the type in which the API has it
	read  func(any) (T, bool)           // returns a new value with the fields that the mesh reads, also of one that it has returned
	slot  func(*translate.Objects) *[]T // the list in Objects for this kind; kinds may share one
	same  func(a, b T) bool             // whether two stripped objects are equal for the mesh; nil: semantic equality
	share func(s *sharing, o, old T)    // makes a stripped object share memory with others, and with itself before; nil: it does not
}

// read returns how a kind is read whose objects have the type that they have in the API.
func read[T metav1.Object](strip func(T) T) func(any) (T, bool) {
	return func(obj any) (out T, ok bool) {
		if out, ok = obj.(T); ok {
			out = strip(out)
		}
		return out, ok
	}
}

// Kind is one kind of objects. It hides their Go type.
type Kind interface {
	Of() *Resource
	Object() metav1.Object // an empty object
	// NewStore returns an empty store. The store calls changed after each change in
	// the fields that the mesh reads.
	NewStore(changed func()) Store
	// Add appends o to its list in to if o is of this kind. It reports whether it
	// is.
	Add(to *translate.Objects, o metav1.Object) bool
}

// Resource is the resource of a kind in the API.
type Resource struct {
	custom.Resource
	ClusterScoped bool
	// Optional marks the resources of CustomResourceDefinitions, which can be
	// installed and removed. Every API server has the others.
	Optional bool
	// MetadataOnly: only the metadata of the objects is read.
	MetadataOnly bool
}

func builtIn(group, name, kind string, clusterScoped bool) Resource {
	return Resource{Resource: custom.Resource{Group: group, Versions: []string{"v1"}, Name: name, Kind: kind}, ClusterScoped: clusterScoped}
}

func ofCRD(r custom.Resource) Resource { return Resource{Resource: r, Optional: true} }

func (k *kind[T]) Of() *Resource { return &k.Resource }

func (k *kind[T]) Object() metav1.Object { return k.empty }

func (k *kind[T]) NewStore(changed func()) Store { return newStore(k, changed) }

func (k *kind[T]) Add(to *translate.Objects, o metav1.Object) bool {
	v, ok := o.(T)
	if !ok {
		v, ok = k.read(o) // in the type that the API has
	}
	switch o.(type) {
	case *custom.PolicyObject, *metav1.PartialObjectMetadata: // of several kinds
		of := o.(runtime.Object).GetObjectKind().GroupVersionKind()
		ok = ok && of.Kind == k.Kind && of.Group == k.Group
	}
	if ok {
		slot := k.slot(to)
		*slot = append(*slot, v)
	}
	return ok
}
