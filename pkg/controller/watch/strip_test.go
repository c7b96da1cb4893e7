package watch

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayx "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/controller/translate"
)

// TestStripLeavesWhatTranslateReads: the golden files' objects mean the same
// when stripped, also twice, and are not changed by it.
func TestStripLeavesWhatTranslateReads(t *testing.T) {
	files, err := filepath.Glob("../translate/testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		whole, stripped := &translate.Objects{}, &translate.Objects{}
		for _, o := range objects {
			switch v := o.(type) {
			case *corev1.Namespace:
				whole.Namespaces = append(whole.Namespaces, v)
				stripped.Namespaces = append(stripped.Namespaces, stripNamespace(stripNamespace(v)))
			case *corev1.Node:
				whole.Nodes = append(whole.Nodes, v)
				stripped.Nodes = append(stripped.Nodes, stripNode(stripNode(v)))
			case *gatewayv1.HTTPRoute:
				whole.HTTPRoutes = append(whole.HTTPRoutes, v)
				stripped.HTTPRoutes = append(stripped.HTTPRoutes, stripHTTPRoute(stripHTTPRoute(v)))
			case *gatewayv1.GRPCRoute:
				whole.GRPCRoutes = append(whole.GRPCRoutes, v)
				stripped.GRPCRoutes = append(stripped.GRPCRoutes, stripGRPCRoute(stripGRPCRoute(v)))
			case *gatewayx.XBackendTrafficPolicy:
				whole.TrafficPolicies = append(whole.TrafficPolicies, v)
				stripped.TrafficPolicies = append(stripped.TrafficPolicies, stripTrafficPolicy(stripTrafficPolicy(v)))
			case *custom.TrafficSplit:
				whole.TrafficSplits = append(whole.TrafficSplits, v)
				stripped.TrafficSplits = append(stripped.TrafficSplits, stripTrafficSplit(stripTrafficSplit(v)))
			case *custom.HTTPRouteGroup:
				whole.HTTPRouteGroups = append(whole.HTTPRouteGroups, v)
				stripped.HTTPRouteGroups = append(stripped.HTTPRouteGroups, stripRouteGroup(stripRouteGroup(v)))
			case *custom.HTTPFault:
				whole.HTTPFaults = append(whole.HTTPFaults, v)
				stripped.HTTPFaults = append(stripped.HTTPFaults, stripFault(stripFault(v)))
			case *corev1.Pod:
				whole.Pods = append(whole.Pods, v)
				stripped.Pods = append(stripped.Pods, stripPod(stripPod(v)))
			case *corev1.Service:
				whole.Services = append(whole.Services, v)
				stripped.Services = append(stripped.Services, stripService(stripService(v)))
			case *discoveryv1.EndpointSlice:
				whole.EndpointSlices = append(whole.EndpointSlices, v)
				stripped.EndpointSlices = append(stripped.EndpointSlices, stripEndpointSlice(stripEndpointSlice(v)))
			case *networkingv1.NetworkPolicy:
				whole.NetworkPolicies = append(whole.NetworkPolicies, v)
				stripped.NetworkPolicies = append(stripped.NetworkPolicies, stripNetworkPolicy(stripNetworkPolicy(v)))
			}
		}
		before, _ := json.Marshal(whole)
		want, got := translate.Translate(whole, "cluster.local"), translate.Translate(stripped, "cluster.local")
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
			t.Error(path, diff)
		}
		if after, _ := json.Marshal(whole); string(before) != string(after) {
			t.Error(path, "was changed")
		}
	}
}
