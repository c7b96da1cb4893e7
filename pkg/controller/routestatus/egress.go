package routestatus

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/translate"
)

// read returns an object in the first version that the API server has, and the client of
// that version.
func (w *Writer) read(ctx context.Context, of *custom.Resource, r route) (client rest.Interface, text []byte, err error) {
	for _, gv := range of.GroupVersions() {
		client = w.clients.Of(gv)
		text, err = client.Get().Namespace(r.namespace).Resource(of.Name).Name(r.name).DoRaw(ctx)
		if !apierrors.IsNotFound(err) {
			break
		}
	}
	return client, text, err
}

// fromConditions returns the entries of an EgressNetwork's status, as status.has does of the
// form accepted.
func fromConditions(all []metav1.Condition) []gatewayv1.RouteParentStatus {
	for _, c := range all {
		if c.Type == accepted.condition() {
			return []gatewayv1.RouteParentStatus{{ControllerName: translate.ControllerName, Conditions: []metav1.Condition{c}}}
		}
	}
	return nil
}
