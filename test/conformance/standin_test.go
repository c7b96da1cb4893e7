package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	conformance "sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

// gateway is the Gateway that is the parent of most of the suite's routes for
// gateways. A Service with the same name and namespace replaces it.
const gateway = "same-namespace"

// gatewayPort is the port of that Service, the same as the Gateway's.
const gatewayPort = 80

// service returns the Service that replaces the Gateway. Requests without a route
// go to an existing server.
func service() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: gateway, Namespace: suite.InfrastructureNamespace},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": suite.InfraBackendServiceNameV1},
			Ports:    []corev1.ServicePort{{Name: "any", Port: gatewayPort, TargetPort: intstr.FromInt32(3000)}},
		},
	}
}

// forServices edits the suite's manifests for gateways. A route's parent becomes
// the Service, Gateways are left out, and only the servers for HTTP and gRPC stay.
func forServices(u *unstructured.Unstructured) bool {
	switch u.GetKind() {
	case "Namespace":
		return u.GetName() == suite.InfrastructureNamespace
	case "Deployment", "Service":
		return u.GetNamespace() == suite.InfrastructureNamespace &&
			!strings.HasPrefix(u.GetName(), "t") && u.GetName() != "coredns" // tls-backend, tcp-backend
	case "HTTPRoute", "GRPCRoute":
		refs, _, _ := unstructured.NestedSlice(u.Object, "spec", "parentRefs")
		for _, ref := range refs {
			if ref, ok := ref.(map[string]any); ok {
				ref["group"], ref["kind"], ref["port"] = "", "Service", int64(gatewayPort)
			}
		}
		if unstructured.SetNestedSlice(u.Object, refs, "spec", "parentRefs") != nil {
			return false
		}
		return matchHosts(u) == nil
	case "Gateway", "ConfigMap":
		return false
	}
	return true
}

// matchHosts replaces a route's hostnames, which a mesh ignores, by matches of the
// header Host: one for each match and each name. The suite's tests of sets of names
// are not run.
func matchHosts(u *unstructured.Unstructured) error {
	names, _, _ := unstructured.NestedStringSlice(u.Object, "spec", "hostnames")
	if len(names) == 0 {
		return nil
	}
	unstructured.RemoveNestedField(u.Object, "spec", "hostnames")
	rules, _, err := unstructured.NestedSlice(u.Object, "spec", "rules")
	if err != nil {
		return err
	}
	for _, rule := range rules {
		rule, ok := rule.(map[string]any)
		if !ok {
			return fmt.Errorf("a rule that is %T", rule)
		}
		before, _, err := unstructured.NestedSlice(rule, "matches")
		if err != nil {
			return err
		}
		if len(before) == 0 {
			before = []any{map[string]any{}}
		}
		var after []any
		for _, match := range before {
			for _, name := range names {
				match, ok := runtime.DeepCopyJSONValue(match).(map[string]any)
				if !ok {
					return fmt.Errorf("a match that is %T", match)
				}
				headers, _, err := unstructured.NestedSlice(match, "headers")
				if err != nil {
					return err
				}
				match["headers"] = append(headers, map[string]any{"name": "Host", "value": name})
				after = append(after, match)
			}
		}
		rule["matches"] = after
	}
	return unstructured.SetNestedSlice(u.Object, rules, "spec", "rules")
}

// forHTTP2 edits the manifests so that Services lead to the HTTP/2 port of the same
// servers. The Services do not declare the protocol.
func forHTTP2(u *unstructured.Unstructured) bool {
	switch {
	case strings.HasPrefix(u.GetName(), "grpc-"):
	case u.GetKind() == "Service":
		replacePort(u, "targetPort", "spec", "ports")
	case u.GetKind() == "EndpointSlice":
		replacePort(u, "port", "ports")
	}
	return forServices(u)
}

// replacePort replaces the server's HTTP/1 port by its HTTP/2 port, in a field of
// each element of a list.
func replacePort(u *unstructured.Unstructured, field string, list ...string) {
	ports, _, _ := unstructured.NestedSlice(u.Object, list...)
	for _, port := range ports {
		if port, ok := port.(map[string]any); ok && port[field] == float64(3000) {
			port[field] = float64(3001)
		}
	}
	_ = unstructured.SetNestedSlice(u.Object, ports, list...) // cannot fail: it is a list
}

// standIn is a client that shows Services to the tests as Gateways. They are
// accepted, and their address is the cluster IP. The status of routes is the real
// one, except that the parent is called a Gateway.
type standIn struct{ client.Client }

func (c standIn) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if gw, ok := obj.(*gatewayv1.Gateway); ok {
		var s corev1.Service
		if err := c.Client.Get(ctx, key, &s, opts...); err != nil {
			return fmt.Errorf("the Service in the place of a Gateway: %w", err)
		}
		accepted(gw, &s)
		return nil
	}
	if err := c.Client.Get(ctx, key, obj, opts...); err != nil {
		return err
	}
	switch route := obj.(type) {
	case *gatewayv1.HTTPRoute:
		asGateways(route.Status.Parents)
	case *gatewayv1.GRPCRoute:
		asGateways(route.Status.Parents)
	}
	return nil
}

// accepted fills in a Gateway from a Service.
func accepted(gw *gatewayv1.Gateway, s *corev1.Service) {
	var conditions []metav1.Condition
	for _, kind := range []gatewayv1.ListenerConditionType{
		gatewayv1.ListenerConditionAccepted, gatewayv1.ListenerConditionProgrammed, gatewayv1.ListenerConditionResolvedRefs,
	} {
		conditions = append(conditions, metav1.Condition{Type: string(kind), Status: metav1.ConditionTrue, Reason: string(kind)})
	}
	kind := gatewayv1.IPAddressType
	*gw = gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Name: s.Name, Namespace: s.Namespace}}
	gw.Spec.Listeners = []gatewayv1.Listener{{Name: "http", Port: gatewayPort, Protocol: gatewayv1.HTTPProtocolType}}
	gw.Status.Conditions = conditions
	gw.Status.Listeners = []gatewayv1.ListenerStatus{{Name: "http", Conditions: conditions}}
	gw.Status.Addresses = []gatewayv1.GatewayStatusAddress{{Type: &kind, Value: s.Spec.ClusterIP}}
}

func asGateways(parents []gatewayv1.RouteParentStatus) {
	for i := range parents {
		ref := &parents[i].ParentRef
		if ref.Kind == nil || *ref.Kind != "Service" {
			continue
		}
		group, kind := gatewayv1.Group(gatewayv1.GroupName), gatewayv1.Kind("Gateway")
		ref.Group, ref.Kind, ref.Port = &group, &kind, nil
	}
}

func TestForServices(t *testing.T) {
	from := manifests{conformance.Manifests, forServices}
	kinds := map[string]int{}
	for _, o := range objects(t, from, "base/manifests.yaml") {
		u := unstructured.Unstructured{Object: o}
		kinds[u.GetKind()]++
	}
	// infra-backend-v1 to v3 and grpc-infra-backend-v1 to v3.
	if diff := cmp.Diff(map[string]int{"Namespace": 1, "Service": 6, "Deployment": 6}, kinds); diff != "" {
		t.Errorf("base (-want +got):\n%s", diff)
	}
	for _, o := range objects(t, manifests{conformance.Manifests, forHTTP2}, "tests/httproute-service-types.yaml") {
		text, err := json.Marshal(o)
		if err != nil || bytes.Contains(text, []byte("3000")) {
			t.Errorf("got the port for HTTP/1 in %s (%v), want only that for HTTP/2", text, err)
		}
	}
	route := objects(t, from, "tests/httproute-weight.yaml")[0]
	refs, _, _ := unstructured.NestedSlice(route, "spec", "parentRefs")
	want := []any{map[string]any{"group": "", "kind": "Service", "name": gateway, "port": float64(gatewayPort)}}
	if diff := cmp.Diff(want, refs); diff != "" {
		t.Errorf("parents (-want +got):\n%s", diff)
	}

	rule := objects(t, from, "tests/httproute-matching-across-routes.yaml")[0]
	if names, found, _ := unstructured.NestedSlice(rule, "spec", "hostnames"); found {
		t.Errorf("a route has the hostnames %v, want none", names)
	}
	rules, _, _ := unstructured.NestedSlice(rule, "spec", "rules")
	matches, _, _ := unstructured.NestedSlice(rules[0].(map[string]any), "matches")
	host := func(name string) any { return map[string]any{"name": "Host", "value": name} }
	version := map[string]any{"name": "version", "value": "one"}
	path := map[string]any{"type": "PathPrefix", "value": "/"}
	wantMatches := []any{
		map[string]any{"path": path, "headers": []any{host("example.com")}},
		map[string]any{"path": path, "headers": []any{host("example.net")}},
		map[string]any{"headers": []any{version, host("example.com")}},
		map[string]any{"headers": []any{version, host("example.net")}},
	}
	if diff := cmp.Diff(wantMatches, matches); diff != "" {
		t.Errorf("matches (-want +got):\n%s", diff)
	}
}
