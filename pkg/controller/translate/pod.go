package translate

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Pod is what the mesh reads of a corev1.Pod: kind.PodOf makes it. The fields are those of a
// corev1.Pod, which takes 1.4 KB before it says anything, and a cluster has many.
type Pod struct {
	metav1.ObjectMeta
	Spec   PodSpec
	Status PodStatus
}

// PodSpec is what is read of a corev1.PodSpec.
type PodSpec struct {
	NodeName                 string
	ServiceAccountName       string
	DeprecatedServiceAccount string
	HostNetwork              bool
	Containers               []corev1.Container // those with ports
	InitContainers           []corev1.Container
}

// PodStatus is what is read of a corev1.PodStatus.
type PodStatus struct {
	Phase      corev1.PodPhase
	PodIP      string
	PodIPs     []corev1.PodIP // nil: PodIP says everything
	Conditions []corev1.PodCondition
}
