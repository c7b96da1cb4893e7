package apiserver

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/underlane/underlane/pkg/controller/apitest"
	"github.com/underlane/underlane/pkg/controller/customclient"
	"github.com/underlane/underlane/pkg/controller/watch"
	"github.com/underlane/underlane/pkg/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// kube is a Cluster that watches an API server.
type kube struct {
	*Cluster
	t      *testing.T
	server *apitest.Server
	client kubernetes.Interface
	log    string // path of the log
}

func watchCluster(t *testing.T, prepare ...func(*apitest.Server)) *kube {
	k := &kube{t: t, server: apitest.New(t), log: filepath.Join(t.TempDir(), "log")}
	log := must(os.Create(k.log))
	t.Cleanup(func() { log.Close() })
	k.client = k.server.Client()
	for _, p := range prepare {
		p(k.server)
	}
	k.Cluster = NewCluster(k.server.Client(), must(customclient.New(k.server.Config())), slog.New(slog.NewTextHandler(log, nil)))
	k.discoverEvery = 10 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = k.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return k
}

func (k *kube) waitSynced() {
	k.t.Helper()
	select {
	case <-k.Synced():
	case <-time.After(patience):
		k.t.Fatal("not synced:", k.Problems())
	}
}

func (k *kube) until(what string, cond func() bool) {
	k.t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			k.t.Fatalf("not within %s: %s; pods %v, problems %v", patience, what, k.pods(), k.Problems())
		}
		time.Sleep(time.Millisecond)
	}
}

func (k *kube) pods() (names []string) {
	for _, p := range k.Objects().Pods {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return names
}

func (k *kube) addPod(name string) *corev1.Pod {
	k.t.Helper()
	p, err := k.client.CoreV1().Pods("default").Create(k.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}}, Spec: corev1.PodSpec{NodeName: "n1"},
	}, metav1.CreateOptions{})
	if err != nil {
		k.t.Fatal(err)
	}
	return p
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestClusterIsFollowed(t *testing.T) {
	k := watchCluster(t)
	ctx := t.Context()
	k.waitSynced()
	k.until("the first signal", func() bool { return len(k.Changes()) == 1 })
	k.addPod("a")
	must(k.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}))
	must(k.client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
		{Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.1"},
	}}}, metav1.CreateOptions{}))
	must(k.client.CoreV1().Services("default").Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{}))
	must(k.client.DiscoveryV1().EndpointSlices("default").Create(ctx, &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "a-x"}}, metav1.CreateOptions{}))
	must(k.client.NetworkingV1().NetworkPolicies("default").Create(ctx, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: "all"}}, metav1.CreateOptions{}))
	k.until("one of each", func() bool {
		o := k.Objects()
		return len(o.Pods) == 1 && len(o.Namespaces) == 1 && len(o.Services) == 1 && len(o.EndpointSlices) == 1 &&
			len(o.NetworkPolicies) == 1 && len(k.Nodes()) == 1
	})
	if got := k.Nodes()[0].Status.Addresses; len(got) != 1 || got[0].Address != "192.0.2.1" {
		t.Errorf("addresses of the node: %v", got)
	}
	b := k.addPod("b")
	k.until("b", func() bool { return k.Pod(string(b.UID)) != nil })
	if err := k.client.CoreV1().Pods("default").Delete(ctx, "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	k.until("a gone", func() bool { return cmp.Equal(k.pods(), []string{"b"}) })
	if p, f := k.Problems(), k.Failures(); len(p) != 0 || f != 0 {
		t.Errorf("problems %v, %d failures", p, f)
	}
}

// TestWhatTheMeshDoesNotReadIsNoChange: the kubelets' heartbeats and the
// controller's own annotation must not cause work.
func TestWhatTheMeshDoesNotReadIsNoChange(t *testing.T) {
	k := watchCluster(t)
	ctx := t.Context()
	k.waitSynced()
	p := k.addPod("a")
	k.until("a", func() bool { return len(k.pods()) == 1 })
	// update is none that the mesh reads. When it is seen, all that pods caused
	// before has had its effect.
	update := func(status string) {
		t.Helper()
		p.Annotations = map[string]string{mesh.AnnotationStatus: status, "other": "x"}
		p.Spec.Containers = []corev1.Container{{Name: "c", Image: "i"}}
		p.Status.Message = "hello, " + status
		p = must(k.client.CoreV1().Pods("default").Update(ctx, p, metav1.UpdateOptions{}))
		k.until("the update", func() bool { return k.Pod(string(p.UID)).Annotations[mesh.AnnotationStatus] == status })
	}
	calm := func() bool { return !k.debouncer.Waiting() }
	update("pending")
	k.until("no signal is on its way", calm)
	<-k.Changes()
	update("enrolled")
	update("failed")
	if !calm() || len(k.Changes()) != 0 {
		t.Error("a signal for nothing")
	}
	best := patience // of three, for the machine may be busy with something else
	for _, label := range []string{mesh.LabelEnabled, mesh.LabelDisabled, mesh.LabelEnabled} {
		p.Labels[mesh.LabelMesh] = label
		start := time.Now()
		p = must(k.client.CoreV1().Pods("default").Update(ctx, p, metav1.UpdateOptions{}))
		select {
		case <-k.Changes():
		case <-time.After(patience):
			t.Fatal("no signal for a label")
		}
		best = min(best, time.Since(start))
	}
	if best > 500*time.Millisecond {
		t.Errorf("from label to signal: %s", best)
	}
}

// TestAddressOfALoadBalancerIsAChange: it comes after the Service.
func TestAddressOfALoadBalancerIsAChange(t *testing.T) {
	k := watchCluster(t)
	ctx := t.Context()
	k.waitSynced()
	s := must(k.client.CoreV1().Services("default").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
	}, metav1.CreateOptions{}))
	k.until("the Service", func() bool { return len(k.Objects().Services) == 1 })
	if got := k.Objects().Services[0]; !got.CreationTimestamp.Equal(&s.CreationTimestamp) {
		t.Errorf("created %v, want %v", got.CreationTimestamp, s.CreationTimestamp)
	}
	k.until("no signal is on its way", func() bool { return !k.debouncer.Waiting() })
	for len(k.Changes()) > 0 {
		<-k.Changes()
	}
	proxy := corev1.LoadBalancerIPModeProxy
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1", IPMode: &proxy, Hostname: "lb.example"}}
	must(k.client.CoreV1().Services("default").Update(ctx, s, metav1.UpdateOptions{}))
	select {
	case <-k.Changes():
	case <-time.After(patience):
		t.Fatal("no signal for the address of the load balancer")
	}
	want := []corev1.LoadBalancerIngress{{IP: "192.0.2.1", IPMode: &proxy}}
	if diff := cmp.Diff(want, k.Objects().Services[0].Status.LoadBalancer.Ingress); diff != "" {
		t.Error("-want +got:", diff)
	}
}

func TestBurstsAreCoalesced(t *testing.T) {
	k := watchCluster(t)
	k.waitSynced()
	signals, stop := make(chan int), make(chan struct{})
	go func() {
		n := 0
		for {
			select {
			case <-k.Changes():
				n++
			case <-stop:
				signals <- n
				return
			}
		}
	}()
	start := time.Now()
	for i := range 200 {
		k.addPod(fmt.Sprint("p", i))
	}
	k.until("all", func() bool { return len(k.pods()) == 200 })
	most := int(time.Since(start)/watch.Debounce) + 3
	close(stop)
	if n := <-signals; n > most {
		t.Errorf("%d signals for 200 pods, want at most %d", n, most)
	}
}

func TestOutageIsSurvived(t *testing.T) {
	k := watchCluster(t)
	k.addPod("a")
	k.waitSynced()
	k.until("a", func() bool { return len(k.pods()) == 1 })
	k.server.Stop()
	k.until("noticed", func() bool { return len(k.Problems()) > 0 && k.Failures() > 0 })
	if !cmp.Equal(k.pods(), []string{"a"}) {
		t.Error("the state went with the API server")
	}
	k.server.Start()
	k.addPod("b")
	k.until("caught up", func() bool { return cmp.Equal(k.pods(), []string{"a", "b"}) })
	k.until("mended", func() bool { return len(k.Problems()) == 0 })
	log := string(must(os.ReadFile(k.log)))
	if n := strings.Count(log, "resource=pods err="); n > 3 { // cut off, refused
		t.Errorf("an outage of pods is logged %d times", n)
	}
	if !strings.Contains(log, "cannot be watched") || !strings.Contains(log, "watched again") {
		t.Error(log)
	}
}

// TestHistoryIsLost: after a long outage the API server cannot say what was
// missed, and everything is listed again; what is gone is found gone.
func TestHistoryIsLost(t *testing.T) {
	k := watchCluster(t)
	k.addPod("a")
	k.addPod("b")
	k.waitSynced()
	k.until("both", func() bool { return len(k.pods()) == 2 })
	k.server.Stop()
	k.server.Delete("pods", "default", "a")
	k.server.Forget()
	k.server.Start()
	k.until("a gone", func() bool { return cmp.Equal(k.pods(), []string{"b"}) })
}

func TestForbiddenIsAProblem(t *testing.T) {
	k := watchCluster(t, func(s *apitest.Server) { s.Refuse("networkpolicies", true) })
	k.until("the problem", func() bool {
		p := k.Problems()
		return len(p) == 1 && p[0].Resource == "networkpolicies" && strings.Contains(p[0].String(), "is forbidden")
	})
	select {
	case <-k.Synced():
		t.Fatal("synced without NetworkPolicies: the shortcut would pass them by")
	default:
	}
	k.server.Refuse("networkpolicies", false)
	k.waitSynced()
	k.until("mended", func() bool { return len(k.Problems()) == 0 })
}
