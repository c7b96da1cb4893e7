package translate_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/mesh"
)

// bigCluster has so many pods, five behind each service, in 50 namespaces, and
// a route for every second service: a canary with a header to choose it.
func bigCluster(pods int) *translate.Objects {
	o := &translate.Objects{}
	for i := range 50 {
		name := fmt.Sprintf("ns-%d", i)
		o.Namespaces = append(o.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{mesh.LabelMesh: mesh.LabelEnabled}}})
		o.NetworkPolicies = append(o.NetworkPolicies, &networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: name},
			Spec:       networkingv1.NetworkPolicySpec{PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "app-0"}}},
		})
	}
	isTrue := true
	for i := range pods {
		ns, app, ip := fmt.Sprintf("ns-%d", i/5%50), fmt.Sprintf("app-%d", i/5), fmt.Sprintf("10.%d.%d.%d", 1+i/62500, i/250%250, 1+i%250)
		name := fmt.Sprintf("%s-7c5bf8d6f9-%d", app, i)
		o.Pods = append(o.Pods, &translate.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: name, Namespace: ns, UID: types.UID(fmt.Sprint("uid-", i)),
				Labels:          map[string]string{"app": app, "pod-template-hash": "7c5bf8d6f9", "version": "v1"},
				OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: app + "-7c5bf8d6f9", Controller: &isTrue}},
			},
			Spec: translate.PodSpec{NodeName: fmt.Sprintf("node-%d", i%100), ServiceAccountName: app},
			Status: translate.PodStatus{
				Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			},
		})
		if i%5 == 0 {
			o.Services = append(o.Services, &corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Name: app, Namespace: ns},
				Spec: corev1.ServiceSpec{
					ClusterIP: fmt.Sprintf("10.200.%d.%d", i/1250, i/5%250), Selector: map[string]string{"app": app},
					Ports: []corev1.ServicePort{{Name: "http", Port: 80}, {Name: "admin", Port: 81}},
				},
			})
			o.EndpointSlices = append(o.EndpointSlices, &discoveryv1.EndpointSlice{
				ObjectMeta:  metav1.ObjectMeta{Name: app + "-x", Namespace: ns, Labels: map[string]string{discoveryv1.LabelServiceName: app}},
				AddressType: discoveryv1.AddressTypeIPv4,
				Ports:       []discoveryv1.EndpointPort{{Name: ref("http"), Port: ref(int32(8080))}, {Name: ref("admin"), Port: ref(int32(9990))}},
			})
		}
		slice := o.EndpointSlices[len(o.EndpointSlices)-1]
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{ip}, NodeName: ref(fmt.Sprintf("node-%d", i%100)),
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: ns, Name: name},
		})
	}
	for i := 0; i < pods/5; i += 2 {
		weighted := func(app int, weight int32) gatewayv1.HTTPBackendRef {
			return gatewayv1.HTTPBackendRef{BackendRef: gatewayv1.BackendRef{
				BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(fmt.Sprintf("app-%d", app)), Port: ref(int32(80))},
				Weight:                 &weight,
			}}
		}
		other := (i + 50) % (pods / 5)
		o.HTTPRoutes = append(o.HTTPRoutes, &gatewayv1.HTTPRoute{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("canary-%d", i), Namespace: fmt.Sprintf("ns-%d", i%50)},
			Spec: gatewayv1.HTTPRouteSpec{
				CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{
					Group: ref(gatewayv1.Group("")), Kind: ref(gatewayv1.Kind("Service")), Name: gatewayv1.ObjectName(fmt.Sprintf("app-%d", i)), Port: ref(int32(80)),
				}}},
				Rules: []gatewayv1.HTTPRouteRule{
					{
						Matches:     []gatewayv1.HTTPRouteMatch{{Headers: []gatewayv1.HTTPHeaderMatch{{Type: ref(gatewayv1.HeaderMatchRegularExpression), Name: "X-Canary", Value: "yes|always"}}}},
						BackendRefs: []gatewayv1.HTTPBackendRef{weighted(other, 1)},
					},
					{
						BackendRefs: []gatewayv1.HTTPBackendRef{weighted(i, 90), weighted(other, 10)},
						Timeouts:    &gatewayv1.HTTPRouteTimeouts{Request: ref(gatewayv1.Duration("10s"))},
					},
				},
			},
		})
	}
	return o
}

func ref[T any](v T) *T { return &v }

// BenchmarkTranslate is what one change costs: everything is translated anew.
func BenchmarkTranslate(b *testing.B) {
	o := bigCluster(5000)
	b.ReportAllocs()
	for b.Loop() {
		if r := translate.Translate(o, "cluster.local"); len(r.Workloads) != 5000 || len(r.Services) != 1000 || len(r.Routes) != 500 {
			b.Fatal(len(r.Workloads), len(r.Services), len(r.Routes))
		}
	}
}

// BenchmarkSnapshot is the other half of it: the encoding for the agents.
func BenchmarkSnapshot(b *testing.B) {
	r := translate.Translate(bigCluster(5000), "cluster.local")
	last := server.NewSnapshot(1, server.Content{Workloads: r.Workloads, Services: r.Services}, nil)
	b.ReportAllocs()
	for b.Loop() {
		server.NewSnapshot(2, server.Content{Workloads: r.Workloads, Services: r.Services}, last)
	}
}

// TestCostGrowsWithTheCluster guards against a cost that grows with its square.
func TestCostGrowsWithTheCluster(t *testing.T) {
	cost := func(pods int) time.Duration {
		o := bigCluster(pods)
		best := time.Hour
		for range 5 {
			start := time.Now()
			translate.Translate(o, "cluster.local")
			best = min(best, time.Since(start))
		}
		return best
	}
	small, big := cost(1000), cost(8000)
	for range 3 { // the machine may be busy with something else
		if big <= 32*small {
			return
		}
		small, big = max(small, cost(1000)), min(big, cost(8000))
	}
	t.Errorf("1000 pods: %s, 8000 pods: %s", small, big)
}
