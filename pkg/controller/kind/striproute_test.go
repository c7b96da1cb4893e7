package kind

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

func TestStripRoutes(t *testing.T) {
	meta := metav1.ObjectMeta{Name: "a", ResourceVersion: "1", Annotations: map[string]string{"a": "b"}, ManagedFields: []metav1.ManagedFieldsEntry{{}}}
	a, b := stripHTTPRoute(&gatewayv1.HTTPRoute{ObjectMeta: meta}), stripGRPCRoute(&gatewayv1.GRPCRoute{ObjectMeta: meta})
	for _, m := range []metav1.ObjectMeta{a.ObjectMeta, b.ObjectMeta} {
		if m.Name != "a" || m.Annotations != nil || m.ManagedFields != nil || m.ResourceVersion != "" {
			t.Errorf("%+v", m)
		}
	}
}
