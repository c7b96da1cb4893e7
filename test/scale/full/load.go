package full

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/underlane/underlane/test/scale"
	"github.com/underlane/underlane/test/scale/agents"
)

const system = "underlane-system"

// load writes the objects of a cluster into etcd, as the API server would store them: through
// it, this takes longer than the test. It returns how many there are.
func (p *plane) load(nodes int) int {
	l := &loader{p: p, encode: protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)}
	o := scale.Cluster(nodes)
	for i, n := range o.Nodes {
		n.Status.Addresses[0].Address = agents.Addr(i).String()
		n.UID = types.UID(nodeUID(n.Name))
		l.put("minions/"+n.Name, n)
		agent := agentPod(n.Name)
		l.put("pods/"+system+"/"+agent.Name, agent)
	}
	l.put("namespaces/"+system, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system}})
	l.put("serviceaccounts/"+system+"/"+agentAccount, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: agentAccount, Namespace: system, UID: agentAccount}})
	for _, n := range o.Namespaces {
		l.put("namespaces/"+n.Name, n)
	}
	for _, n := range o.NetworkPolicies {
		l.put("networkpolicies/"+n.Namespace+"/"+n.Name, n)
	}
	for i := range o.Pods {
		pod := scale.Pod(nodes, i)
		pod.Annotations = map[string]string{"underlane.io/enrolled": "true", "underlane.io/status": "enrolled"}
		pod.Spec.Containers = containers
		pod.OwnerReferences[0].APIVersion, pod.OwnerReferences[0].UID = "apps/v1", types.UID(pod.OwnerReferences[0].Name)
		l.put("pods/"+pod.Namespace+"/"+pod.Name, pod)
	}
	probe := scale.Slice(nodes, 0, 1)
	for _, s := range append(o.Services, probeService()) {
		l.put("services/specs/"+s.Namespace+"/"+s.Name, s)
		ip := allocated(s)
		l.put("ipaddresses/"+ip.Name, ip)
	}
	for _, s := range append(o.EndpointSlices, probeSlice(probe, 1), controllers(0)) {
		l.put("endpointslices/"+s.Namespace+"/"+s.Name, s)
	}
	l.flush()
	return l.n
}

// allocated says that a Service has its ClusterIP. An API server that finds thousands without
// it ends when it starts.
func allocated(s *corev1.Service) *networkingv1.IPAddress {
	return &networkingv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: s.Spec.ClusterIP, Labels: map[string]string{
			networkingv1.LabelIPAddressFamily: "IPv4", networkingv1.LabelManagedBy: "ipallocator.k8s.io",
		}},
		Spec: networkingv1.IPAddressSpec{ParentRef: &networkingv1.ParentReference{Resource: "services", Namespace: s.Namespace, Name: s.Name}},
	}
}

var containers = []corev1.Container{{Name: "app", Image: "app", TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile, ImagePullPolicy: corev1.PullIfNotPresent}}

func agentPod(node string) *corev1.Pod {
	name := agentAccount + "-" + node
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: system, UID: types.UID(name)},
		Spec:       corev1.PodSpec{NodeName: node, HostNetwork: true, ServiceAccountName: agentAccount, Containers: containers},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

// controllersName is the Service of the controllers.
const controllersName = "underlane-controller"

// controllers is the EndpointSlice of so many controllers. Nobody connects to the addresses.
func controllers(n int) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: controllersName, Namespace: system, Labels: map[string]string{discoveryv1.LabelServiceName: controllersName}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for i := range n {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprint("192.0.2.", i+1)}})
	}
	return out
}

// setControllers says in the API how many controllers are ready.
func (p *plane) setControllers(ctx context.Context, n int) {
	endpoints, err := json.Marshal(map[string]any{"endpoints": controllers(n).Endpoints})
	if err == nil {
		_, err = p.client.DiscoveryV1().EndpointSlices(system).Patch(ctx, controllersName, types.MergePatchType, endpoints, metav1.PatchOptions{})
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func nodeUID(node string) string { return "uid-" + node }

const probeName = "probe"

// probeAddr is the address of a Service whose endpoint changes all the time.
const probeAddr = "10.96.255.250"

func probeService() *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: probeName, Namespace: system},
		Spec:       corev1.ServiceSpec{ClusterIP: probeAddr, Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}},
	}
}

// probeSlice is the EndpointSlice of the probe's Service. The port says the how manieth it is.
func probeSlice(like *discoveryv1.EndpointSlice, port int32) *discoveryv1.EndpointSlice {
	out := like.DeepCopy()
	out.ObjectMeta = metav1.ObjectMeta{Name: probeName, Namespace: system, Labels: map[string]string{discoveryv1.LabelServiceName: probeName}}
	name, tcp := "http", corev1.ProtocolTCP
	out.Ports = []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &tcp}}
	return out
}

// loader writes objects in batches.
type loader struct {
	p      *plane
	encode runtime.Encoder
	puts   []any
	n      int
}

func (l *loader) put(key string, o interface {
	runtime.Object
	metav1.Object
},
) {
	kinds, _, err := scheme.Scheme.ObjectKinds(o)
	if err != nil {
		l.p.t.Fatal(err)
	}
	o.GetObjectKind().SetGroupVersionKind(kinds[0])
	if o.GetUID() == "" {
		o.SetUID(types.UID(fmt.Sprintf("10000000-0000-4000-8000-%012d", l.n)))
	}
	o.SetCreationTimestamp(metav1.NewTime(time.Now().Truncate(time.Second)))
	o.SetGeneration(1)
	var value bytes.Buffer
	if err := l.encode.Encode(o, &value); err != nil {
		l.p.t.Fatal(err)
	}
	l.puts = append(l.puts, map[string]any{"request_put": map[string]any{"key": []byte("/registry/" + key), "value": value.Bytes()}})
	if l.n++; len(l.puts) == 500 {
		l.flush()
	}
}

func (l *loader) flush() {
	body, err := json.Marshal(map[string]any{"success": l.puts})
	if err != nil {
		l.p.t.Fatal(err)
	}
	l.puts = nil
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		resp, err := http.Post(l.p.etcd+"/v3/kv/txn", "application/json", bytes.NewReader(body))
		if err == nil {
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				l.p.t.Fatalf("etcd: %s: %s", resp.Status, text)
			}
			return
		}
		if time.Since(start) > 30*time.Second {
			l.p.t.Fatalf("etcd does not answer: %v", err)
		}
	}
}
