package custom

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// HTTPFault is one of Underlane's own resources. A filter of a route that refers to
// it makes requests fail on purpose. It is experimental.
type HTTPFault struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              HTTPFaultSpec `json:"spec"`
}

// HTTPFaultSpec has at least one of the two.
type HTTPFaultSpec struct {
	Delay *HTTPFaultDelay `json:"delay,omitempty"`
	Abort *HTTPFaultAbort `json:"abort,omitempty"`
}

// HTTPFaultDelay delays requests before they are sent.
type HTTPFaultDelay struct {
	Duration gatewayv1.Duration `json:"duration"`
	Percent  *int32             `json:"percent,omitempty"` // of the requests, 0 to 100; nil: all
}

// HTTPFaultAbort answers requests instead of sending them.
type HTTPFaultAbort struct {
	Status     int32  `json:"status,omitempty"`     // 200 to 599
	GRPCStatus int32  `json:"grpcStatus,omitempty"` // of gRPC calls, 1 to 16
	Percent    *int32 `json:"percent,omitempty"`    // as in HTTPFaultDelay
}

// HTTPFaultList is a list of them.
type HTTPFaultList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []HTTPFault `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (f *HTTPFault) DeepCopyObject() runtime.Object { return f.deepCopy() }

func (f *HTTPFault) deepCopy() *HTTPFault {
	out := *f
	out.ObjectMeta = *f.ObjectMeta.DeepCopy()
	if f.Spec.Delay != nil {
		out.Spec.Delay = &HTTPFaultDelay{Duration: f.Spec.Delay.Duration, Percent: copyOf(f.Spec.Delay.Percent)}
	}
	if f.Spec.Abort != nil {
		out.Spec.Abort = &HTTPFaultAbort{Status: f.Spec.Abort.Status, GRPCStatus: f.Spec.Abort.GRPCStatus, Percent: copyOf(f.Spec.Abort.Percent)}
	}
	return &out
}

func copyOf[T any](v *T) *T {
	if v == nil {
		return nil
	}
	out := *v
	return &out
}

// DeepCopyObject implements runtime.Object. It also copies the items.
func (l *HTTPFaultList) DeepCopyObject() runtime.Object {
	out := *l
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	out.Items = slices.Clone(l.Items)
	for i := range out.Items {
		out.Items[i] = *l.Items[i].deepCopy()
	}
	return &out
}
