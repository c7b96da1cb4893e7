// Package scale measures what the control plane costs at which size of a cluster:
// docs/scale.md.
package scale

import (
	"encoding/json"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/kind"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/mesh"
)

// Of a cluster.
const (
	PodsPerNode       = 20
	PodsPerService    = 5
	podsPerNamespace  = 100
	servicesPerRoute  = 4
	servicesPerPolicy = 4
)

// Cluster returns the objects of a cluster with so many nodes: on each 20 pods, a Service with
// an EndpointSlice for five of them, a namespace for a hundred. A quarter of the Services has
// an HTTPRoute, and of a quarter of them the pods have an authorization policy. Each namespace
// has a NetworkPolicy.
func Cluster(nodes int) *translate.Objects {
	return ClusterOf(nodes, func(i int) *corev1.Pod { return Pod(nodes, i) })
}

// ClusterOf is Cluster with other pods; nil: with none.
func ClusterOf(nodes int, pod func(i int) *corev1.Pod) *translate.Objects {
	o := &translate.Objects{}
	for i := range nodes {
		o.Nodes = append(o.Nodes, &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: nodeName(i), Labels: map[string]string{corev1.LabelTopologyZone: fmt.Sprint("zone-", i%3)}},
			Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: addr("172.16.0.0", i).String()}}},
		})
	}
	pods := nodes * PodsPerNode
	for i := 0; i < pods; i += podsPerNamespace {
		name := namespaceOf(i)
		o.Namespaces = append(o.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{mesh.LabelMesh: mesh.LabelEnabled}}})
		o.NetworkPolicies = append(o.NetworkPolicies, &networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: "one", Namespace: name},
			Spec:       networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": appOf(i)}}},
		})
	}
	for i := range pods {
		if pod == nil {
			break
		}
		o.Pods = append(o.Pods, kind.PodOf(pod(i)))
	}
	for i := 0; i < pods; i += PodsPerService {
		o.Services = append(o.Services, service(i))
		o.EndpointSlices = append(o.EndpointSlices, Slice(nodes, i, PodsPerService))
		n := i / PodsPerService
		if n%servicesPerRoute == 0 {
			o.HTTPRoutes = append(o.HTTPRoutes, Route(i, 90))
		}
		if n%servicesPerPolicy == 1 {
			o.PolicyObjects = append(o.PolicyObjects, Policy(i, "client"))
		}
	}
	return o
}

func nodeName(i int) string { return fmt.Sprint("node-", i) }

func namespaceOf(pod int) string { return fmt.Sprint("ns-", pod/podsPerNamespace) }

func appOf(pod int) string { return fmt.Sprint("app-", pod/PodsPerService) }

func podName(pod int) string { return fmt.Sprintf("%s-7c5bf8d6f9-%d", appOf(pod), pod) }

// nodeOf spreads the pods of a Service over nodes.
func nodeOf(nodes, pod int) string {
	return nodeName((pod/PodsPerService + pod%PodsPerService*7) % nodes)
}

func addr(first string, i int) netip.Addr {
	b := netip.MustParseAddr(first).As4()
	b[1] += byte(i >> 16)
	b[2], b[3] = byte(i>>8), byte(i)
	return netip.AddrFrom4(b)
}

// PodAddr and ServiceAddr are the addresses of the pod of this number, and of its Service.
func PodAddr(pod int) netip.Addr     { return addr("10.1.0.0", pod) }
func ServiceAddr(pod int) netip.Addr { return addr("10.96.0.0", pod/PodsPerService) }

// Pod returns the pod of this number.
func Pod(nodes, i int) *corev1.Pod {
	app, ip := appOf(i), PodAddr(i).String()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: podName(i), Namespace: namespaceOf(i), UID: types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", i)),
			Labels:          map[string]string{"app": app, "pod-template-hash": "7c5bf8d6f9", "version": "v1"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: app + "-7c5bf8d6f9", Controller: ref(true)}},
		},
		Spec: corev1.PodSpec{NodeName: nodeOf(nodes, i), ServiceAccountName: app},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		},
	}
}

func service(i int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: appOf(i), Namespace: namespaceOf(i)},
		Spec: corev1.ServiceSpec{
			ClusterIP: ServiceAddr(i).String(), Selector: map[string]string{"app": appOf(i)},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80}, {Name: "admin", Port: 81}},
		},
	}
}

// Slice returns the EndpointSlice of the Service of this pod, with its first n endpoints.
func Slice(nodes, pod, n int) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: appOf(pod) + "-x", Namespace: namespaceOf(pod), Labels: map[string]string{discoveryv1.LabelServiceName: appOf(pod)}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ref("http"), Port: ref(int32(8080))}, {Name: ref("admin"), Port: ref(int32(9990))}},
	}
	first := pod / PodsPerService * PodsPerService
	for i := first; i < first+n; i++ {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{PodAddr(i).String()}, NodeName: ref(nodeOf(nodes, i)),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: namespaceOf(i), Name: podName(i)},
		})
	}
	return out
}

// Route returns the route of the Service of this pod: a canary with a header to choose it.
func Route(pod int, weight int32) *gatewayv1.HTTPRoute {
	app := gatewayv1.ObjectName(appOf(pod))
	other := gatewayv1.ObjectName(appOf(pod + PodsPerService))
	to := func(name gatewayv1.ObjectName, weight int32) gatewayv1.HTTPBackendRef {
		return gatewayv1.HTTPBackendRef{BackendRef: gatewayv1.BackendRef{
			BackendObjectReference: gatewayv1.BackendObjectReference{Name: name, Port: ref(gatewayv1.PortNumber(80))}, Weight: &weight,
		}}
	}
	return &gatewayv1.HTTPRoute{
		ObjectMeta: metav1.ObjectMeta{Name: "canary-" + string(app), Namespace: namespaceOf(pod)},
		Spec: gatewayv1.HTTPRouteSpec{
			CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{
				Group: ref(gatewayv1.Group("")), Kind: ref(gatewayv1.Kind("Service")), Name: app, Port: ref(gatewayv1.PortNumber(80)),
			}}},
			Rules: []gatewayv1.HTTPRouteRule{
				{
					Matches:     []gatewayv1.HTTPRouteMatch{{Headers: []gatewayv1.HTTPHeaderMatch{{Type: ref(gatewayv1.HeaderMatchRegularExpression), Name: "X-Canary", Value: "yes|always"}}}},
					BackendRefs: []gatewayv1.HTTPBackendRef{to(other, 1)},
				},
				{BackendRefs: []gatewayv1.HTTPBackendRef{to(app, weight), to(other, 100-weight)}, Timeouts: &gatewayv1.HTTPRouteTimeouts{Request: ref(gatewayv1.Duration("10s"))}},
			},
		},
	}
}

// Policy returns the policy of Istio for the pods of the Service of this pod: only one service
// account may connect.
func Policy(pod int, account string) *custom.PolicyObject {
	spec, err := json.Marshal(map[string]any{
		"selector": map[string]any{"matchLabels": map[string]string{"app": appOf(pod)}},
		"action":   "ALLOW",
		"rules":    []any{map[string]any{"from": []any{map[string]any{"source": map[string]any{"principals": []string{"cluster.local/ns/" + namespaceOf(pod) + "/sa/" + account}}}}}},
	})
	if err != nil {
		panic(err) // it is constant but for its strings
	}
	return &custom.PolicyObject{
		TypeMeta:   metav1.TypeMeta{APIVersion: "security.istio.io/v1", Kind: "AuthorizationPolicy"},
		ObjectMeta: metav1.ObjectMeta{Name: appOf(pod), Namespace: namespaceOf(pod)},
		Spec:       spec,
	}
}

func ref[T any](v T) *T { return &v }
