package customclient

import (
	"encoding/json"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayx "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/policyobject"
)

// noticing decodes objects and notes which of their fields their Go type does not have: a
// cluster may have a newer version of the Gateway API than this program. The decoders of
// client-go leave them out, so that a rule would match more than its author means.
type noticing struct{ runtime.NegotiatedSerializer }

// DecoderToVersion implements runtime.NegotiatedSerializer.
func (n noticing) DecoderToVersion(d runtime.Decoder, gv runtime.GroupVersioner) runtime.Decoder {
	return noticingDecoder{n.NegotiatedSerializer.DecoderToVersion(d, gv)}
}

type noticingDecoder struct{ runtime.Decoder }

// Decode implements runtime.Decoder.
func (d noticingDecoder) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	out, gvk, err := d.Decoder.Decode(data, defaults, into)
	if err == nil {
		Notice(out, data)
	}
	return out, gvk, err
}

// Notice notes the unknown fields of an object, or of the objects of a list, which was decoded
// from data. Types that keep their specification as it is need none of it.
func Notice(o runtime.Object, data []byte) {
	switch o := o.(type) {
	case *gatewayv1.HTTPRoute:
		custom.SetUnknownFields(o, unknown[gatewayv1.HTTPRouteSpec](data))
	case *gatewayv1.GRPCRoute:
		custom.SetUnknownFields(o, unknown[gatewayv1.GRPCRouteSpec](data))
	case *gatewayv1.TLSRoute:
		custom.SetUnknownFields(o, unknown[gatewayv1.TLSRouteSpec](data))
	case *gatewayv1.TCPRoute:
		custom.SetUnknownFields(o, unknown[gatewayv1.TCPRouteSpec](data))
	case *gatewayx.XBackendTrafficPolicy:
		custom.SetUnknownFields(o, unknown[gatewayx.BackendTrafficPolicySpec](data))
	case *custom.TrafficSplit:
		custom.SetUnknownFields(o, unknown[custom.TrafficSplitSpec](data))
	case *custom.HTTPRouteGroup:
		custom.SetUnknownFields(o, unknownOfGroup(data))
	case *custom.HTTPFault:
		custom.SetUnknownFields(o, unknown[custom.HTTPFaultSpec](data))
	case *gatewayv1.HTTPRouteList:
		noticeAll(o.Items, data)
	case *gatewayv1.GRPCRouteList:
		noticeAll(o.Items, data)
	case *gatewayv1.TLSRouteList:
		noticeAll(o.Items, data)
	case *gatewayv1.TCPRouteList:
		noticeAll(o.Items, data)
	case *gatewayx.XBackendTrafficPolicyList:
		noticeAll(o.Items, data)
	case *custom.TrafficSplitList:
		noticeAll(o.Items, data)
	case *custom.HTTPRouteGroupList:
		noticeAll(o.Items, data)
	case *custom.HTTPFaultList:
		noticeAll(o.Items, data)
	}
}

func noticeAll[T any, O interface {
	*T
	runtime.Object
	metav1.Object
}](items []T, data []byte) {
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(data, &list); err != nil || len(list.Items) != len(items) {
		for i := range items { // it cannot be said of which of them something is not known
			custom.SetUnknownFields(O(&items[i]), []string{"spec"})
		}
		return
	}
	for i := range items {
		Notice(O(&items[i]), list.Items[i])
	}
}

func unknown[T any](data []byte) []string {
	_, u := policyobject.Read[T](data)
	return u.All()
}

// unknownOfGroup is unknown for a kind whose older versions have no specification.
func unknownOfGroup(data []byte) []string {
	var older struct {
		Matches json.RawMessage `json:"matches"`
	}
	if json.Unmarshal(data, &older) == nil && older.Matches != nil {
		data = slices.Concat([]byte(`{"spec":{"matches":`), older.Matches, []byte(`}}`))
	}
	return unknown[custom.HTTPRouteGroupSpec](data)
}
