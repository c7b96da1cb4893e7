package kind

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/pkg/controller/istiopolicy"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/mesh"
)

// The strip functions copy the fields of an object that translate reads. A cluster
// has many pods, and the mesh does not read most of a Pod: its spec, managedFields
// and foreign annotations.

// isOurs reports whether an annotation belongs to underlane.io or a domain below
// it.
func isOurs(name string) bool {
	domain, _, _ := strings.Cut(name, "/")
	return domain == "underlane.io" || strings.HasSuffix(domain, ".underlane.io")
}

func stripAnnotations(all map[string]string) map[string]string {
	var out map[string]string
	for name, value := range all {
		if isOurs(name) || name == mesh.AnnotationLinkerdPolicy || name == istiopolicy.AnnotationDryRun {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = value
		}
	}
	return out
}

func stripMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: m.Name, Namespace: m.Namespace, UID: m.UID, Labels: m.Labels, Annotations: stripAnnotations(m.Annotations),
		DeletionTimestamp: m.DeletionTimestamp,
	}
}

func readPod(obj any) (*translate.Pod, bool) {
	switch p := obj.(type) {
	case *corev1.Pod:
		return PodOf(p), true
	case *translate.Pod:
		out := *p
		return &out, true
	}
	return nil, false
}

// PodOf returns what the mesh reads of a pod.
func PodOf(p *corev1.Pod) *translate.Pod {
	out := &translate.Pod{
		ObjectMeta: stripMeta(p.ObjectMeta),
		Spec: translate.PodSpec{
			NodeName: p.Spec.NodeName, HostNetwork: p.Spec.HostNetwork,
			ServiceAccountName: p.Spec.ServiceAccountName, DeprecatedServiceAccount: p.Spec.DeprecatedServiceAccount,
			Containers: stripContainers(p.Spec.Containers), InitContainers: stripContainers(p.Spec.InitContainers),
		},
		Status: translate.PodStatus{
			Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs, Conditions: stripConditions(p.Status.Conditions),
		},
	}
	if ips := out.Status.PodIPs; len(ips) == 1 && ips[0].IP == out.Status.PodIP {
		out.Status.PodIPs = nil
	}
	if ref := metav1.GetControllerOf(p); ref != nil {
		out.OwnerReferences = []metav1.OwnerReference{{Kind: ref.Kind, Name: ref.Name, Controller: ref.Controller}}
		if ref.Kind == "Job" {
			out.CreationTimestamp = p.CreationTimestamp // tells whether a CronJob has made the Job
		}
	}
	return out
}

// stripContainers keeps the containers that have ports, because a Service may name
// a port.
func stripContainers(all []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for i := range all {
		if len(all[i].Ports) > 0 {
			out = append(out, corev1.Container{Ports: all[i].Ports, RestartPolicy: all[i].RestartPolicy})
		}
	}
	return out
}

// stripConditions keeps the Ready condition. It also preserves whether there are
// conditions at all: a pod of a plain manifest, without a kubelet, has none.
func stripConditions(all []corev1.PodCondition) []corev1.PodCondition {
	for _, c := range all {
		if c.Type == corev1.PodReady {
			return []corev1.PodCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	if len(all) > 0 {
		return []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionUnknown}}
	}
	return nil
}

func stripNamespace(n *corev1.Namespace) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: stripMeta(n.ObjectMeta)}
}

func stripNode(n *corev1.Node) *corev1.Node {
	out := &corev1.Node{ObjectMeta: stripMeta(n.ObjectMeta)}
	out.Labels = nil
	if zone, ok := n.Labels[corev1.LabelTopologyZone]; ok {
		out.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			out.Status.Addresses = append(out.Status.Addresses, a)
		}
	}
	return out
}

func stripService(s *corev1.Service) *corev1.Service {
	out := &corev1.Service{
		ObjectMeta: stripMeta(s.ObjectMeta),
		Spec: corev1.ServiceSpec{
			Type: s.Spec.Type, ClusterIP: s.Spec.ClusterIP, ClusterIPs: s.Spec.ClusterIPs, Ports: s.Spec.Ports, Selector: s.Spec.Selector,
			PublishNotReadyAddresses: s.Spec.PublishNotReadyAddresses, SessionAffinity: s.Spec.SessionAffinity,
			InternalTrafficPolicy: s.Spec.InternalTrafficPolicy, ExternalTrafficPolicy: s.Spec.ExternalTrafficPolicy,
			ExternalIPs: s.Spec.ExternalIPs, LoadBalancerSourceRanges: s.Spec.LoadBalancerSourceRanges,
		},
	}
	out.Labels = nil
	out.CreationTimestamp = s.CreationTimestamp // the oldest claim to an address counts
	for _, i := range s.Status.LoadBalancer.Ingress {
		out.Status.LoadBalancer.Ingress = append(out.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: i.IP, IPMode: i.IPMode})
	}
	return out
}

func stripEndpointSlice(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{ObjectMeta: stripMeta(s.ObjectMeta), AddressType: s.AddressType, Ports: s.Ports}
	out.Labels = nil
	if service, ok := s.Labels[discoveryv1.LabelServiceName]; ok {
		out.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	}
	if len(s.Endpoints) > 0 {
		stripEndpoints(out, s.Endpoints)
	}
	return out
}

// stripEndpoints gives out the endpoints of a slice. What they point to is in one array for all.
func stripEndpoints(out *discoveryv1.EndpointSlice, all []discoveryv1.Endpoint) {
	n := 0
	for i := range all {
		n += len(all[i].Addresses)
	}
	addresses := make([]string, 0, n)
	refs := make([]corev1.ObjectReference, 0, len(all))
	out.Endpoints = make([]discoveryv1.Endpoint, 0, len(all))
	for i := range all {
		e := &all[i]
		kept := discoveryv1.Endpoint{Conditions: e.Conditions, NodeName: e.NodeName, Hints: e.Hints}
		if from := len(addresses); len(e.Addresses) > 0 {
			addresses = append(addresses, e.Addresses...)
			kept.Addresses = addresses[from:len(addresses):len(addresses)]
		}
		if ref := e.TargetRef; ref != nil {
			refs = append(refs, corev1.ObjectReference{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name})
			kept.TargetRef = &refs[len(refs)-1]
		}
		out.Endpoints = append(out.Endpoints, kept)
	}
}

func stripNetworkPolicy(p *networkingv1.NetworkPolicy) *networkingv1.NetworkPolicy {
	out := &networkingv1.NetworkPolicy{
		ObjectMeta: stripMeta(p.ObjectMeta), Spec: networkingv1.NetworkPolicySpec{PodSelector: p.Spec.PodSelector},
	}
	out.Labels = nil
	return out
}
