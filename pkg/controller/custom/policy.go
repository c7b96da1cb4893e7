package custom

import (
	"encoding/json"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// PolicyObject is an object of an authorization policy, or of one that such a policy refers
// to. Its kind is in TypeMeta. The package that translates the kind decodes Spec: it has to
// know of fields that it does not understand.
type PolicyObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              json.RawMessage `json:"spec,omitempty"`
	Status            json.RawMessage `json:"status,omitempty"`
}

// QualifiedKind returns the kind with its group, KIND.GROUP: several groups have a kind
// AuthorizationPolicy.
func (p *PolicyObject) QualifiedKind() string { return p.Kind + "." + p.GroupVersionKind().Group }

// PolicyObjectList is a list of them.
type PolicyObjectList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PolicyObject `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (p *PolicyObject) DeepCopyObject() runtime.Object { return p.deepCopy() }

func (p *PolicyObject) deepCopy() *PolicyObject {
	out := *p
	out.ObjectMeta = *p.ObjectMeta.DeepCopy()
	out.Spec, out.Status = slices.Clone(p.Spec), slices.Clone(p.Status)
	return &out
}

// DeepCopyObject implements runtime.Object. It also copies the items.
func (l *PolicyObjectList) DeepCopyObject() runtime.Object {
	out := *l
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	out.Items = slices.Clone(l.Items)
	for i := range out.Items {
		out.Items[i] = *l.Items[i].deepCopy()
	}
	return &out
}
