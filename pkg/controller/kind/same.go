package kind

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/mesh"
)

// samePod reports whether two stripped pods are equal. It ignores the annotation that the
// controller itself writes. Pods are most of what changes in a cluster: it allocates nothing.
func samePod(a, b *translate.Pod) bool {
	m, n := &a.ObjectMeta, &b.ObjectMeta
	return m.Name == n.Name && m.Namespace == n.Namespace && m.UID == n.UID &&
		maps.Equal(m.Labels, n.Labels) && sameAnnotations(m.Annotations, n.Annotations) &&
		m.DeletionTimestamp.Equal(n.DeletionTimestamp) && m.CreationTimestamp.Equal(&n.CreationTimestamp) &&
		sameOwners(m.OwnerReferences, n.OwnerReferences) &&
		sameSpec(&a.Spec, &b.Spec) && sameStatus(&a.Status, &b.Status)
}

// sameSlice reports whether two stripped EndpointSlices are equal.
func sameSlice(a, b *discoveryv1.EndpointSlice) bool {
	m, n := &a.ObjectMeta, &b.ObjectMeta
	return m.Name == n.Name && m.Namespace == n.Namespace && m.UID == n.UID &&
		maps.Equal(m.Labels, n.Labels) && maps.Equal(m.Annotations, n.Annotations) && m.DeletionTimestamp.Equal(n.DeletionTimestamp) &&
		a.AddressType == b.AddressType && slices.EqualFunc(a.Endpoints, b.Endpoints, sameEndpoint) && slices.EqualFunc(a.Ports, b.Ports, samePort)
}

func sameEndpoint(a, b discoveryv1.Endpoint) bool {
	c, d := &a.Conditions, &b.Conditions
	return slices.Equal(a.Addresses, b.Addresses) && sameValue(c.Ready, d.Ready) && sameValue(c.Serving, d.Serving) && sameValue(c.Terminating, d.Terminating) &&
		sameValue(a.NodeName, b.NodeName) && sameValue(a.TargetRef, b.TargetRef) &&
		(a.Hints == nil && b.Hints == nil || equality.Semantic.DeepEqual(a.Hints, b.Hints))
}

func sameValue[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func sameAnnotations(a, b map[string]string) bool {
	count := func(all map[string]string) int {
		if _, has := all[mesh.AnnotationStatus]; has {
			return len(all) - 1
		}
		return len(all)
	}
	if count(a) != count(b) {
		return false
	}
	for k, v := range a {
		if other, has := b[k]; k != mesh.AnnotationStatus && (!has || v != other) {
			return false
		}
	}
	return true
}

func sameSpec(a, b *translate.PodSpec) bool {
	return a.NodeName == b.NodeName && a.ServiceAccountName == b.ServiceAccountName &&
		a.DeprecatedServiceAccount == b.DeprecatedServiceAccount && a.HostNetwork == b.HostNetwork &&
		sameContainers(a.Containers, b.Containers) && sameContainers(a.InitContainers, b.InitContainers)
}

func sameStatus(a, b *translate.PodStatus) bool {
	return a.Phase == b.Phase && a.PodIP == b.PodIP && slices.Equal(a.PodIPs, b.PodIPs) &&
		slices.EqualFunc(a.Conditions, b.Conditions, func(c, d corev1.PodCondition) bool { return c.Type == d.Type && c.Status == d.Status })
}

// The lists of pods are mostly shared: see sharing.

func sameOwners(a, b []metav1.OwnerReference) bool {
	return shared(a, b) || slices.EqualFunc(a, b, func(c, d metav1.OwnerReference) bool {
		return c.APIVersion == d.APIVersion && c.Kind == d.Kind && c.Name == d.Name && c.UID == d.UID &&
			sameValue(c.Controller, d.Controller) && sameValue(c.BlockOwnerDeletion, d.BlockOwnerDeletion)
	})
}

// sameContainers compares what stripContainers leaves.
func sameContainers(a, b []corev1.Container) bool {
	if shared(a, b) {
		return true
	}
	if len(a) != len(b) {
		return false
	}
	for i := range a { // they are large values
		if !slices.Equal(a[i].Ports, b[i].Ports) || !sameValue(a[i].RestartPolicy, b[i].RestartPolicy) {
			return false
		}
	}
	return true
}

// shared reports whether two lists are one.
func shared[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

func samePort(a, b discoveryv1.EndpointPort) bool {
	return sameValue(a.Name, b.Name) && sameValue(a.Protocol, b.Protocol) && sameValue(a.Port, b.Port) && sameValue(a.AppProtocol, b.AppProtocol)
}
