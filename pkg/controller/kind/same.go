package kind

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"

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
		sameList(m.OwnerReferences, n.OwnerReferences) &&
		sameSpec(&a.Spec, &b.Spec) && sameStatus(&a.Status, &b.Status)
}

// sameSlice reports whether two stripped EndpointSlices are equal.
func sameSlice(a, b *discoveryv1.EndpointSlice) bool {
	m, n := &a.ObjectMeta, &b.ObjectMeta
	return m.Name == n.Name && m.Namespace == n.Namespace && m.UID == n.UID &&
		maps.Equal(m.Labels, n.Labels) && maps.Equal(m.Annotations, n.Annotations) && m.DeletionTimestamp.Equal(n.DeletionTimestamp) &&
		a.AddressType == b.AddressType && slices.EqualFunc(a.Endpoints, b.Endpoints, sameEndpoint) && sameList(a.Ports, b.Ports)
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
		sameList(a.Containers, b.Containers) && sameList(a.InitContainers, b.InitContainers)
}

func sameStatus(a, b *translate.PodStatus) bool {
	return a.Phase == b.Phase && a.PodIP == b.PodIP && slices.Equal(a.PodIPs, b.PodIPs) &&
		slices.EqualFunc(a.Conditions, b.Conditions, func(c, d corev1.PodCondition) bool { return c.Type == d.Type && c.Status == d.Status })
}

// sameList compares lists, which are mostly shared: see sharing.
func sameList[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || equality.Semantic.DeepEqual(a, b))
}
