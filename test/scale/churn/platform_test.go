package churn

import (
	"context"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/controller"
	"github.com/underlane/underlane/pkg/controller/kind"
	"github.com/underlane/underlane/pkg/controller/translate"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/test/scale"
)

const (
	trustDomain = "cluster.local"
	system      = "underlane-system"
	probeName   = "probe"
	probeAddr   = "10.96.255.250" // of the Service whose endpoint changes all the time
)

// objects is the source of a controller: the stores of package kind, as they are behind an API
// server, filled without one.
type objects struct {
	debouncer *watch.Debouncer
	stores    []kind.Store
	pods      kind.Store
	slices    kind.Store
}

// newObjects has the objects of a cluster of so many nodes, and the Service of the probe.
func newObjects(t testing.TB, nodes int) *objects {
	s := &objects{debouncer: watch.NewDebouncer()}
	o := scale.Cluster(nodes)
	o.Namespaces = append(o.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system}})
	o.Services = append(o.Services, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: probeName, Namespace: system},
		Spec:       corev1.ServiceSpec{ClusterIP: probeAddr, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	})
	o.EndpointSlices = append(o.EndpointSlices, probe(nodes, 1))
	for i := range o.Pods {
		o.Pods[i] = kind.PodOf(podOf(nodes, i))
	}
	for _, k := range kind.All {
		store := k.NewStore(s.debouncer.Trigger)
		s.stores = append(s.stores, store)
		var list []any
		switch name := k.Of().Name; name {
		case "namespaces":
			list = all(name, o.Namespaces)
		case "nodes":
			list = all(name, o.Nodes)
		case "pods":
			s.pods, list = store, all(name, o.Pods)
		case "services":
			list = all(name, o.Services)
		case "endpointslices":
			s.slices, list = store, all(name, o.EndpointSlices)
		case "networkpolicies":
			if k.Of().Group == "networking.k8s.io" {
				list = all(name, o.NetworkPolicies)
			}
		case "httproutes":
			if k.Of().Group == "gateway.networking.k8s.io" {
				list = all(name, o.HTTPRoutes)
			}
		case "authorizationpolicies":
			if k.Of().Group == "security.istio.io" {
				list = all(name, o.PolicyObjects)
			}
		}
		if err := store.Replace(list, ""); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// all returns objects with a UID each.
func all[T metav1.Object](kind string, in []T) (out []any) {
	for _, o := range in {
		named(kind, o)
		out = append(out, o)
	}
	return out
}

func named(kind string, o metav1.Object) {
	if o.GetUID() == "" {
		o.SetUID(types.UID(kind + "/" + o.GetNamespace() + "/" + o.GetName()))
	}
}

// probe is the EndpointSlice of the probe, with this port.
func probe(nodes int, port int32) *discoveryv1.EndpointSlice {
	out := scale.Slice(nodes, 0, 1)
	out.ObjectMeta = metav1.ObjectMeta{Name: probeName, Namespace: system, Labels: map[string]string{discoveryv1.LabelServiceName: probeName}}
	name, tcp := "http", corev1.ProtocolTCP
	out.Ports = []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}}
	named("endpointslices", out)
	return out
}

// Kind implements controller.Source, as the methods below.
func (s *objects) Kind() string { return "resource" }

func (s *objects) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (s *objects) Objects() *translate.Objects {
	out := &translate.Objects{}
	for _, store := range s.stores {
		store.Fill(out)
	}
	return out
}

func (s *objects) Next() (b translate.Batch) {
	for _, store := range s.stores {
		store.Take(&b)
	}
	return b
}

func (s *objects) AsOf() time.Time                      { return time.Now() }
func (s *objects) Changes() <-chan struct{}             { return s.debouncer.C() }
func (s *objects) Problems() []watch.Problem            { return nil }
func (s *objects) Failures() uint64                     { return 0 }
func (s *objects) Origin(string, string, string) string { return "" }

// platform is that of a controller of a cluster, without its API server.
type platform struct {
	*ca.Directory
	objects *objects
}

// Source implements controller.Platform, as the methods below; Changes and Problem implement
// controller.Authority.
func (p *platform) Source() controller.Source       { return p.objects }
func (p *platform) Authority() controller.Authority { return p }
func (p *platform) Changes() <-chan struct{}        { return nil }
func (p *platform) Problem() string                 { return "" }
func (p *platform) Writer() controller.Writer       { return reader{} }
func (p *platform) HasNode(string) bool             { return true }
func (p *platform) IsNodeAddr(netip.Addr) bool      { return true }
func (p *platform) Leader() (string, string)        { return "", "" }
func (p *platform) Share() (int, int)               { return 0, 0 }
func (p *platform) EnrolledFile() string            { return "" }
func (p *platform) Ready(context.Context) error     { return nil }
func (p *platform) Run(ctx context.Context) error   { return p.objects.Run(ctx) }

func (p *platform) OpenTap(*controller.Controller) (controller.Tap, error) { return nil, nil }

// reader writes nothing.
type reader struct{}

func (reader) AgentConnected(server.AgentInfo)                          {}
func (reader) AgentDisconnected(string)                                 {}
func (reader) PodsReported(string, []control.PodStatus)                 {}
func (reader) UpdateRoutes(*translate.Objects, []translate.RouteStatus) {}
func (reader) Leading() bool                                            { return true }
func (reader) Writes() controller.Writes                                { return controller.Writes{} }

// podOf is a pod of the mesh.
func podOf(nodes, i int) *corev1.Pod {
	pod := scale.Pod(nodes, i)
	pod.Annotations = map[string]string{"underlane.io/enrolled": "true", "underlane.io/status": "enrolled"}
	pod.Spec.Containers = []corev1.Container{{Name: "app", Image: "registry.example/app:1", Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}
	return pod
}

// encoded is a change as the API server tells it.
type encoded struct{ pod, slice []byte }

// encodeChange returns the change that a pod is not ready, or is ready, and its EndpointSlice
// by it.
func encodeChange(t testing.TB, nodes, i int, ready bool) (e encoded) {
	pod := podOf(nodes, i)
	slice := scale.Slice(nodes, i, scale.PodsPerService)
	named("endpointslices", slice)
	if !ready {
		pod.Status.Conditions[0].Status = corev1.ConditionFalse
		for j := range slice.Endpoints {
			if slice.Endpoints[j].Addresses[0] == pod.Status.PodIP {
				slice.Endpoints = append(slice.Endpoints[:j], slice.Endpoints[j+1:]...)
				break
			}
		}
	}
	var err error
	if e.pod, err = pod.Marshal(); err == nil {
		e.slice, err = slice.Marshal()
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// putPod and putSlice decode a change and give it to the stores, as a Reflector does.
func (s *objects) putPod(t testing.TB, b []byte) {
	p := &corev1.Pod{}
	put(t, s.pods, p, p.Unmarshal(b))
}

func (s *objects) putSlice(t testing.TB, b []byte) {
	e := &discoveryv1.EndpointSlice{}
	put(t, s.slices, e, e.Unmarshal(b))
}

func put(t testing.TB, store kind.Store, o any, err error) {
	if err == nil {
		err = store.Update(o)
	}
	if err != nil {
		t.Error("a change:", err)
	}
}
