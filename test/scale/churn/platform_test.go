package churn

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/controller"
	"github.com/underlane/underlane/pkg/controller/custom"
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

// newObjects has the objects that in tells, until their end. They are decoded and stripped one
// by one, as those of a list are which a Reflector gets from an API server.
func newObjects(in *bufio.Reader) (*objects, error) {
	lists := map[string][]any{}
	s := &objects{debouncer: watch.NewDebouncer()}
	stores := map[string]kind.Store{}
	for _, k := range kind.All {
		store := k.NewStore(s.debouncer.Trigger)
		s.stores = append(s.stores, store)
		stores[keyOf(k.Of().Group, k.Of().Name)] = store
	}
	s.pods, s.slices = stores["/pods"], stores[keyOf(discoveryv1.GroupName, "endpointslices")]
	for {
		what, b, err := receive(in)
		if err != nil {
			return nil, err
		}
		if what == listed {
			break
		}
		key, content, _ := bytes.Cut(b, []byte{0})
		o, err := decode(string(key), content)
		if err == nil {
			o, err = stores[string(key)].Strip(o)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		lists[string(key)] = append(lists[string(key)], o)
	}
	for key, store := range stores {
		if err := store.Replace(lists[key], ""); err != nil {
			return nil, err
		}
		delete(lists, key)
	}
	return s, nil
}

func keyOf(group, name string) string { return group + "/" + name }

// decode returns an object of a kind.
func decode(key string, b []byte) (any, error) {
	switch key {
	case "/namespaces":
		o := &corev1.Namespace{}
		return o, o.Unmarshal(b)
	case "/nodes":
		o := &corev1.Node{}
		return o, o.Unmarshal(b)
	case "/pods":
		o := &corev1.Pod{}
		return o, o.Unmarshal(b)
	case "/services":
		o := &corev1.Service{}
		return o, o.Unmarshal(b)
	case "discovery.k8s.io/endpointslices":
		o := &discoveryv1.EndpointSlice{}
		return o, o.Unmarshal(b)
	case "networking.k8s.io/networkpolicies":
		o := &networkingv1.NetworkPolicy{}
		return o, o.Unmarshal(b)
	case "gateway.networking.k8s.io/httproutes":
		o := &gatewayv1.HTTPRoute{}
		return o, json.Unmarshal(b, o)
	case "security.istio.io/authorizationpolicies":
		o := &custom.PolicyObject{}
		return o, json.Unmarshal(b, o)
	}
	return nil, errors.New("which kind is that?")
}

// list tells a controller's process all objects of a cluster, and the Service of the probe.
func (r *remote) list(w *bufio.Writer, nodes int) {
	o := scale.ClusterOf(nodes, nil)
	o.Namespaces = append(o.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system}})
	o.Services = append(o.Services, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: probeName, Namespace: system},
		Spec:       corev1.ServiceSpec{ClusterIP: probeAddr, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	})
	o.EndpointSlices = append(o.EndpointSlices, probe(nodes, 1))
	tell := func(key string, o metav1.Object) {
		named(key, o)
		var b []byte
		var err error
		if m, is := o.(interface{ Marshal() ([]byte, error) }); is {
			b, err = m.Marshal()
		} else {
			b, err = json.Marshal(o)
		}
		if err != nil {
			r.t.Fatal(err)
		}
		r.tell(w, listedOne, append(append([]byte(key), 0), b...))
	}
	each(tell, "/namespaces", o.Namespaces)
	each(tell, "/nodes", o.Nodes)
	for i := range nodes * scale.PodsPerNode {
		tell("/pods", podOf(nodes, i))
	}
	each(tell, "/services", o.Services)
	each(tell, "discovery.k8s.io/endpointslices", o.EndpointSlices)
	each(tell, "networking.k8s.io/networkpolicies", o.NetworkPolicies)
	each(tell, "gateway.networking.k8s.io/httproutes", o.HTTPRoutes)
	each(tell, "security.istio.io/authorizationpolicies", o.PolicyObjects)
	r.tell(w, listed, nil)
	if err := w.Flush(); err != nil {
		r.t.Fatal("the controller:", err)
	}
}

func each[T metav1.Object](tell func(string, metav1.Object), key string, all []T) {
	for _, o := range all {
		tell(key, o)
	}
}

// named gives an object a UID, if it has none.
func named(kind string, o metav1.Object) {
	if o.GetUID() == "" {
		o.SetUID(types.UID(kind + "/" + o.GetNamespace() + "/" + o.GetName()))
	}
}

// probe is an EndpointSlice of the probe, with one endpoint at this port.
func probe(nodes int, port int32) *discoveryv1.EndpointSlice {
	out := scale.Slice(nodes, 0, 1)
	out.ObjectMeta = metav1.ObjectMeta{Name: fmt.Sprint(probeName, "-", port), Namespace: system, Labels: map[string]string{discoveryv1.LabelServiceName: probeName}}
	name, tcp := "http", corev1.ProtocolTCP
	out.Ports = []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}}
	named("discovery.k8s.io/endpointslices", out)
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
func encodeChange(nodes, i int, ready bool) (e encoded, err error) {
	pod := podOf(nodes, i)
	slice := scale.Slice(nodes, i, scale.PodsPerService)
	named("discovery.k8s.io/endpointslices", slice)
	if !ready {
		pod.Status.Conditions[0].Status = corev1.ConditionFalse
		for j := range slice.Endpoints {
			if slice.Endpoints[j].Addresses[0] == pod.Status.PodIP {
				slice.Endpoints = append(slice.Endpoints[:j], slice.Endpoints[j+1:]...)
				break
			}
		}
	}
	if e.pod, err = pod.Marshal(); err == nil {
		e.slice, err = slice.Marshal()
	}
	return e, err
}
