package supervisor

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/underlane/underlane/test/lab/api"
	"github.com/underlane/underlane/test/lab/fabric"
	"github.com/underlane/underlane/test/lab/layout"
)

func readyPod(name, ip4, ip6 string, ready bool) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
		Status:     corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: ip4}, {IP: ip6}}},
	}
	setReady(p, ready)
	return p
}

func service(name string, ips []string, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"},
		Spec:       corev1.ServiceSpec{ClusterIP: ips[0], ClusterIPs: ips, Ports: ports, Selector: map[string]string{"app": "web"}},
	}
}

func testObjects() []metav1.Object {
	leaving := readyPod("leaving", "10.77.1.9", "fd77:1:1::9", true)
	leaving.DeletionTimestamp = &metav1.Time{}
	foreign := readyPod("foreign", "10.77.1.8", "fd77:1:1::8", true)
	foreign.Namespace = "other"
	return []metav1.Object{
		readyPod("a", "10.77.1.2", "fd77:1:1::2", true),
		readyPod("b", "10.77.2.2", "fd77:1:2::2", true),
		readyPod("c", "10.77.2.3", "fd77:1:2::3", false),
		leaving, foreign,
		service("web", []string{"10.78.0.1", "fd78::1"},
			corev1.ServicePort{Port: 80, TargetPort: intstr.FromString("http")},
			corev1.ServicePort{Port: 90, TargetPort: intstr.FromString("none")},
			corev1.ServicePort{Port: 53, Protocol: corev1.ProtocolUDP}),
		service("headless", []string{"None"}, corev1.ServicePort{Port: 80}),
	}
}

func TestVIPs(t *testing.T) {
	ap := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	want := []fabric.VIP{
		{Addr: ap("10.78.0.1:53"), Protocol: "udp", Endpoints: []netip.AddrPort{ap("10.77.1.2:53"), ap("10.77.2.2:53")}},
		{Addr: ap("10.78.0.1:80"), Protocol: "tcp", Endpoints: []netip.AddrPort{ap("10.77.1.2:8080"), ap("10.77.2.2:8080")}},
		{Addr: ap("10.78.0.1:90"), Protocol: "tcp"},
		{Addr: ap("[fd78::1]:53"), Protocol: "udp", Endpoints: []netip.AddrPort{ap("[fd77:1:1::2]:53"), ap("[fd77:1:2::2]:53")}},
		{Addr: ap("[fd78::1]:80"), Protocol: "tcp", Endpoints: []netip.AddrPort{ap("[fd77:1:1::2]:8080"), ap("[fd77:1:2::2]:8080")}},
		{Addr: ap("[fd78::1]:90"), Protocol: "tcp"},
	}
	byString := cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })
	if diff := cmp.Diff(want, vips(testObjects()), byString); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestNodePorts are those of the service's address families, at all nodes.
func TestNodePorts(t *testing.T) {
	var got []string
	objects := []metav1.Object{
		nodeObject(1), nodeObject(2), readyPod("a", "10.77.1.2", "fd77:1:1::2", true),
		service("web", []string{"10.78.0.1"}, corev1.ServicePort{Port: 80, TargetPort: intstr.FromInt32(8080), NodePort: 30080}),
	}
	for _, v := range vips(objects) {
		got = append(got, fmt.Sprintf("%s %v", v.Addr, v.Endpoints))
	}
	want := []string{"10.78.0.1:80 [10.77.1.2:8080]"}
	for n := 1; n <= 2; n++ {
		want = append(want, layout.NodeAddrs(n)[0].String()+":30080 [10.77.1.2:8080]")
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestHostsFile(t *testing.T) {
	objects := testObjects()
	want := `127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
10.77.1.2 a
fd77:1:1::2 a
10.77.1.2 headless.shop.svc.cluster.local headless.shop.svc headless.shop headless
10.77.2.2 headless.shop.svc.cluster.local headless.shop.svc headless.shop headless
10.78.0.1 web.shop.svc.cluster.local web.shop.svc web.shop web
fd77:1:1::2 headless.shop.svc.cluster.local headless.shop.svc headless.shop headless
fd77:1:2::2 headless.shop.svc.cluster.local headless.shop.svc headless.shop headless
fd78::1 web.shop.svc.cluster.local web.shop.svc web.shop web
`
	if diff := cmp.Diff(want, hostsFile(objects[0].(*corev1.Pod), objects)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := hostsFile(objects[4].(*corev1.Pod), objects); strings.Contains(got, " web\n") || !strings.Contains(got, " web.shop\n") {
		t.Errorf("hosts file in another namespace: want web.shop and no web, got:\n%s", got)
	}
}

func TestScheduleSpreads(t *testing.T) {
	c := newCluster(layout.Layout{Name: "t"}, api.Options{Nodes: 2}, slog.New(slog.DiscardHandler))
	place := func(obj *corev1.Pod) (int, int, error) {
		node, index, err := c.schedule(obj)
		if err == nil {
			c.pods[obj.Namespace+"/"+obj.Name] = &pod{obj: obj, node: node, index: index}
		}
		return node, index, err
	}
	at := func(name, node string) *corev1.Pod {
		p := readyPod(name, "", "", true)
		p.Spec.NodeName = node
		return p
	}
	for i, c := range []struct {
		obj         *corev1.Pod
		node, index int
	}{
		{at("a", "node-1"), 1, 2},
		{at("b", "node-1"), 1, 3},
		{at("c", ""), 2, 2}, // the node with fewer pods
		{at("d", ""), 2, 3},
		{at("e", ""), 1, 4}, // a tie: the first node
	} {
		if node, index, err := place(c.obj); err != nil || node != c.node || index != c.index {
			t.Errorf("pod %d: node %d, index %d, %v; want %d, %d", i, node, index, err, c.node, c.index)
		}
	}
	delete(c.pods, "shop/e")
	if _, index, err := place(at("f", "node-1")); err != nil || index != 5 {
		t.Errorf("index %d, %v: an address was reused at once, want a new one", index, err)
	}
	if _, _, err := place(at("g", "node-3")); err == nil || !strings.Contains(err.Error(), "node-1 to node-2") {
		t.Errorf("node-3: got %v, want an error that names node-1 to node-2", err)
	}
	for n := 0; ; n++ {
		_, index, err := place(at(strings.Repeat("x", n+1), "node-1"))
		if err != nil {
			if n != 250 { // 253 addresses without those of a, b and f
				t.Errorf("full after %d pods, want 250: %v", n, err)
			}
			break
		}
		if index < layout.FirstPod || index > layout.LastPod {
			t.Fatalf("index %d, want %d to %d", index, layout.FirstPod, layout.LastPod)
		}
	}
}

func TestDeploymentOf(t *testing.T) {
	d := &deployment{obj: newDeployment("web-front"), hash: "5d4f", set: "uid"}
	p := podOf(d)
	if deploymentOf(p) != "web-front" || !strings.HasPrefix(p.Name, "web-front-5d4f-") || len(p.Name) != len("web-front-5d4f-")+5 {
		t.Errorf("got pod %s of %q, want web-front-5d4f-… of web-front", p.Name, deploymentOf(p))
	}
	if p.Labels["pod-template-hash"] != "5d4f" || d.obj.Spec.Template.Labels["pod-template-hash"] != "" {
		t.Errorf("labels of pod %v and template %v, want the hash only in the pod's", p.Labels, d.obj.Spec.Template.Labels)
	}
	if got := deploymentOf(readyPod("a", "", "", true)); got != "" {
		t.Errorf("a bare pod belongs to %q, want none", got)
	}
}

func newDeployment(name string) *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"}}
	d.Spec.Template.Labels = map[string]string{"app": name}
	return d
}

func TestMeshed(t *testing.T) {
	with := func(label string) *corev1.Pod {
		p := &corev1.Pod{}
		if label != "" {
			p.Labels = map[string]string{"underlane.io/mesh": label}
		}
		return p
	}
	ns := &corev1.Namespace{}
	ns.Labels = map[string]string{"underlane.io/mesh": "enabled"}
	for i, c := range []struct {
		pod  *corev1.Pod
		ns   metav1.Object
		want bool
	}{
		{with(""), nil, false},
		{with(""), &corev1.Namespace{}, false},
		{with("enabled"), nil, true},
		{with("enabled"), &corev1.Namespace{}, true},
		{with(""), ns, true},
		{with("disabled"), ns, false},
	} {
		if got := meshed(c.pod, c.ns); got != c.want {
			t.Errorf("case %d: meshed = %v, want %v", i, got, c.want)
		}
	}
}
