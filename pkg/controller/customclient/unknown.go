package customclient

import (
	"encoding/json"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
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
// from data.
func Notice(o runtime.Object, data []byte) {
	if meta.IsListType(o) {
		noticeAll(o, data)
	} else if fields := readerOf(o); fields != nil {
		custom.SetUnknownFields(o.(metav1.Object), fields(data))
	}
}

// readerOf returns what finds the unknown fields of an object of o's type, or nil: types that
// keep their specification as it is need none.
func readerOf(o runtime.Object) func(data []byte) []string {
	switch o.(type) {
	case *gatewayv1.HTTPRoute:
		return unknown[gatewayv1.HTTPRouteSpec]
	case *gatewayv1.GRPCRoute:
		return unknown[gatewayv1.GRPCRouteSpec]
	case *gatewayv1.TLSRoute:
		return unknown[gatewayv1.TLSRouteSpec]
	case *gatewayv1.TCPRoute:
		return unknown[gatewayv1.TCPRouteSpec]
	case *gatewayx.XBackendTrafficPolicy:
		return unknown[gatewayx.BackendTrafficPolicySpec]
	case *custom.TrafficSplit:
		return unknown[custom.TrafficSplitSpec]
	case *custom.HTTPRouteGroup:
		return unknownOfGroup
	case *custom.HTTPFault:
		return unknown[custom.HTTPFaultSpec]
	}
	return nil
}

func noticeAll(o runtime.Object, data []byte) {
	var items []runtime.Object
	_ = meta.EachListItem(o, func(item runtime.Object) error { // a list of the kinds above always has items
		items = append(items, item)
		return nil
	})
	if len(items) == 0 || readerOf(items[0]) == nil {
		return
	}
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(data, &list); err != nil || len(list.Items) != len(items) {
		for _, item := range items { // it cannot be said of which of them something is not known
			custom.SetUnknownFields(item.(metav1.Object), []string{"spec"})
		}
		return
	}
	for i, item := range items {
		Notice(item, list.Items[i])
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
