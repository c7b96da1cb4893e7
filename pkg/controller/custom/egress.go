package custom

import (
	"encoding/json"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// EgressNetwork is one of Linkerd's resources: addresses outside the cluster, and whether
// clients may connect to them. Package translate decodes Spec, because it has to know of
// fields that it does not understand.
type EgressNetwork struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              json.RawMessage     `json:"spec,omitempty"`
	Status            EgressNetworkStatus `json:"status,omitempty"`
}

// EgressNetworkStatus says whether the network is in effect.
type EgressNetworkStatus struct {
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// EgressNetworkList is a list of them.
type EgressNetworkList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EgressNetwork `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (n *EgressNetwork) DeepCopyObject() runtime.Object { return n.deepCopy() }

func (n *EgressNetwork) deepCopy() *EgressNetwork {
	out := *n
	out.ObjectMeta = *n.ObjectMeta.DeepCopy()
	out.Spec, out.Status.Conditions = slices.Clone(n.Spec), slices.Clone(n.Status.Conditions)
	return &out
}

// DeepCopyObject implements runtime.Object. It also copies the items.
func (l *EgressNetworkList) DeepCopyObject() runtime.Object {
	out := *l
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	out.Items = slices.Clone(l.Items)
	for i := range out.Items {
		out.Items[i] = *l.Items[i].deepCopy()
	}
	return &out
}
