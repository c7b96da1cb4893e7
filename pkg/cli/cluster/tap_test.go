package cluster

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/controller/fanin"
	"github.com/underlane/underlane/pkg/controller/tapapi"
	"github.com/underlane/underlane/pkg/listener"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/test/fakeagent"
	"github.com/underlane/underlane/test/fakekube"
	"github.com/underlane/underlane/test/ports"
)

// world is a cluster whose controller and agents are real but for the kernel.
type world struct {
	agents    []*fakeagent.Agent // of withCalls
	t         *testing.T
	kube      *fakekube.Kube
	authority *ca.Authority
	addr      string
	stop      func()

	nodes     []fanin.Node
	workloads []*mesh.Workload
	services  []*mesh.Service
	routes    []*mesh.Route
}

func (w *world) Nodes() []fanin.Node         { return w.nodes }
func (w *world) NodeAddrs() []netip.Addr     { return []netip.Addr{netip.MustParseAddr("192.0.2.1")} }
func (w *world) Workloads() []*mesh.Workload { return w.workloads }
func (w *world) Services() []*mesh.Service   { return w.services }
func (w *world) Routes() []*mesh.Route       { return w.routes }

// Labels are those of the pod of node a; the others have none.
func (w *world) Labels(uid string) map[string]string {
	if uid == "shop/web-a" {
		return map[string]string{"colour": "green"}
	}
	return nil
}

// newWorld has a node for each name, with a pod web-NAME of deployment web.
func newWorld(t *testing.T, nodes ...string) (*world, []*fakeagent.Agent) {
	t.Helper()
	w := &world{t: t, kube: fakekube.Start(t), authority: fakeagent.Authority(t), addr: ports.Reserve(t).String()}
	var agents []*fakeagent.Agent
	for _, name := range nodes {
		a := fakeagent.Start(t, w.authority, name, "")
		agents = append(agents, a)
		w.nodes = append(w.nodes, fanin.Node{Name: name, Address: a.Addr})
		w.workloads = append(w.workloads, a.Workload("shop", "web-"+name, "web"))
	}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w, agents
}

// start runs the controller's API, at the same address as before.
func (w *world) start() {
	w.t.Helper()
	s, err := tapapi.New(tapapi.Options{
		Addr: w.addr, Client: w.kube.Client(), Authority: w.authority, Cluster: w,
		Namespace: "underlane-system", Service: "underlane-controller",
		State:   func() any { return map[string]int{"version": 7} },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "controller_metric 1\n") }),
		Accepts: &listener.Group{Log: slog.New(slog.DiscardHandler)},
		Log:     slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error("Run:", err)
		}
	})
	w.kube.Serve(w.addr)
}

type ran struct {
	out, err string
	code     int
}

// run runs a command as user in namespace shop.
func (w *world) run(ctx context.Context, user string, args ...string) ran {
	w.t.Helper()
	var out, errs bytes.Buffer
	code := w.runTo(ctx, user, &out, &errs, args...)
	return ran{out.String(), errs.String(), code}
}

func (w *world) runTo(ctx context.Context, user string, out, errs io.Writer, args ...string) int {
	w.t.Helper()
	root := &cobra.Command{Use: "underlane", SilenceErrors: true, SilenceUsage: true}
	flags := AddFlags(root.PersistentFlags())
	root.AddCommand(append(TapCommands(flags), StatCommands(flags)...)...)
	root.SetOut(out)
	root.SetErr(errs)
	root.SetArgs(append(args, "--kubeconfig", w.kube.Kubeconfig(user, "shop")))
	err := root.ExecuteContext(ctx)
	if err != nil && !errors.Is(err, cli.ErrSilent) {
		_, _ = io.WriteString(errs, err.Error())
	}
	if err != nil {
		return 1
	}
	return 0
}

// runUntil runs a command and interrupts it when done says so of its output.
func (w *world) runUntil(user string, done func(out, errs string) bool, args ...string) ran {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	out, errs := &watched{}, &watched{}
	ended := make(chan int)
	go func() { ended <- w.runTo(ctx, user, out, errs, args...) }()
	for ctx.Err() == nil && !done(out.String(), errs.String()) {
		time.Sleep(time.Millisecond)
	}
	if ctx.Err() != nil {
		w.t.Errorf("%v: not within 20 s; stderr %q, stdout %.300q", args, errs, out)
	}
	cancel()
	return ran{code: <-ended, out: out.String(), err: errs.String()}
}

// traffic has each agent report a request of its pod until the function that it
// returns is called.
func traffic(agents ...*fakeagent.Agent) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, a := range agents {
		wg.Go(func() {
			for i := uint64(0); ctx.Err() == nil; i++ {
				e := tap.Event{
					Kind: tap.RequestInit, Base: 1, Stream: i, Method: "GET", Path: "/" + a.Name, Authority: "db", TLS: tap.TLSTrue,
					Source: tap.Peer{Workload: a.Workload("shop", "web-"+a.Name, "web")},
				}
				a.Emit(e)
				e.Kind, e.Status, e.Duration = tap.ResponseEnd, 200, time.Millisecond
				a.Emit(e)
				a.Emit(tap.Event{Kind: tap.LegOpen, Side: tap.ClientSide, Source: e.Source, Time: e.Time})
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

func TestTapAcrossNodes(t *testing.T) {
	w, agents := newWorld(t, "a", "b")
	defer traffic(agents...)()
	for name, args := range map[string][]string{
		"deployment":       {"tap", "deploy/web"},
		"two words":        {"tap", "deploy", "web", "-n", "shop"},
		"a kind":           {"tap", "deploy"},
		"namespace":        {"tap", "ns/shop"},
		"everywhere":       {"tap", "deploy", "-A"},
		"all namespaces":   {"tap", "ns"},
		"wide, with a to ": {"tap", "deploy/web", "--method", "get", "-o", "wide"},
		"json":             {"tap", "deploy/web", "-o", "json"},
	} {
		r := w.runUntil("alice", func(out, _ string) bool { return strings.Contains(out, "/a") && strings.Contains(out, "/b") }, args...)
		if r.code != 0 || r.err != "" {
			t.Errorf("%s: code %d, stderr %q, stdout %.300q", name, r.code, r.err, r.out)
		}
	}
	legs := func(out, _ string) bool { return strings.Contains(out, " leg=client") }
	if r := w.runUntil("alice", legs, "tap", "deploy/web", "--connections"); r.code != 0 {
		t.Errorf("the connections that requests pass: %+v", r)
	}
	several := func(out, _ string) bool { return strings.Count(out, "/a") > 20 }
	if r := w.runUntil("alice", several, "tap", "pod/web-a"); strings.Contains(r.out, "/b") || strings.Contains(r.out, " leg=") {
		t.Errorf("one pod: %+v", r)
	}
	if r := w.runUntil("alice", several, "tap", "ns/shop", "-l", "colour in (green, blue)"); strings.Contains(r.out, "/b") {
		t.Errorf("the green ones: %+v", r)
	}
}

func TestTopAcrossNodes(t *testing.T) {
	w, agents := newWorld(t, "a", "b")
	defer traffic(agents...)()
	r := w.run(t.Context(), "alice", "top", "deploy/web", "--once", "--duration", "2s")
	if r.code != 0 || !strings.Contains(r.out, "web-a") || !strings.Contains(r.out, "web-b") || !strings.Contains(r.out, "100.00%") {
		t.Errorf("top: %+v, want code 0 and all requests of both pods successful", r)
	}
}

func TestTapSaysWhatIsWrong(t *testing.T) {
	w, agents := newWorld(t, "a", "b")
	w.kube.Allow = func(s authorizationv1.SubjectAccessReviewSpec) bool { return s.User == "alice" }
	for _, c := range []struct {
		user, want string
		args       []string
	}{
		{"jane", `user "jane" may not tap deployments/web in namespace shop: ask for the ClusterRole underlane-tap-admin`, []string{"tap", "deploy/web"}},
		{"jane", `user "jane" may not see nodes: ask for the ClusterRole underlane-tap-admin`, []string{"diagnostics", "proxy-metrics"}},
		{"alice", `user "jane" may not tap everything in namespace shop`, []string{"tap", "ns/shop", "--as", "jane"}},
		{"alice", "there is no pod of deployment/wep in namespace shop", []string{"tap", "deploy/wep"}},
		{"alice", `no kind "nonsense"`, []string{"tap", "nonsense"}},
		{"alice", "which resource?", []string{"tap"}},
		{"alice", "leave --all-namespaces away", []string{"tap", "deploy/web", "-A"}},
		{"alice", "use one of wide, json, jsonpath=EXPRESSION", []string{"tap", "deploy/web", "-o", "yaml"}},
		{"alice", "is not in a namespace", []string{"tap", "ns/shop", "-n", "shop"}},
	} {
		if r := w.run(t.Context(), c.user, c.args...); r.code != 1 || !strings.Contains(r.err, c.want) {
			t.Errorf("%s %v: %+v, want code 1 and %q", c.user, c.args, r, c.want)
		}
	}
	// A node that is away costs a line, not the tap.
	agents[1].Stop()
	stop := traffic(agents[0])
	defer stop()
	told := func(out, errs string) bool {
		return strings.Contains(out, "/a") && strings.Contains(errs, "‼ b is not heard: ")
	}
	if r := w.runUntil("alice", told, "tap", "deploy/web"); r.code != 0 {
		t.Errorf("with a node away: %+v", r)
	}
	w.stop()
	if r := w.run(t.Context(), "alice", "tap", "deploy/web"); r.code != 1 || !strings.Contains(r.err, "`underlane check` says more") {
		t.Errorf("with the controller away: %+v", r)
	}
}

// What the API server itself says before it passes a call on is put in our words.
func TestRefusalOfTheAPIServer(t *testing.T) {
	for in, want := range map[string]string{
		`deployments.tap.underlane.io "web" is forbidden: User "jane" cannot watch resource "deployments/tap" in API group "tap.underlane.io" in the namespace "shop"`:             `user "jane" may not tap deployments/web in namespace shop: ask for the ClusterRole underlane-tap-admin`,
		`tap.tap.underlane.io is forbidden: User "system:serviceaccount:a:b" cannot watch resource "tap" in API group "tap.underlane.io" in the namespace "shop": RBAC: not found`: `user "system:serviceaccount:a:b" may not tap everything in namespace shop: ask for the ClusterRole underlane-tap-admin`,
		`nodes.tap.underlane.io is forbidden: User "jane" cannot list resource "nodes" in API group "tap.underlane.io" at the cluster scope`:                                       `user "jane" may not see nodes: ask for the ClusterRole underlane-tap-admin`,
		`deployments.tap.underlane.io "web" is forbidden: User "jane" cannot create resource "deployments/try" in API group "tap.underlane.io" in the namespace "shop"`:            `user "jane" may not make connections as deployments/web in namespace shop: ask for the ClusterRole underlane-try`,
		`something else`: `something else`,
	} {
		if diff := cmp.Diff(want, refusal(in)); diff != "" {
			t.Error(diff)
		}
	}
}

// A tap goes on when the replica that serves it ends.
func TestTapOutlivesAReplica(t *testing.T) {
	w, agents := newWorld(t, "a")
	defer traffic(agents...)()
	before, again := 0, false
	r := w.runUntil("alice", func(out, errs string) bool {
		switch {
		case before == 0 && strings.Contains(out, "/a"):
			before = len(out)
			w.stop()
			w.start()
		case !again && strings.Contains(errs, "opened again"):
			again, before = true, len(out)
		}
		return again && len(out) > before
	}, "tap", "deploy/web")
	if r.code != 0 {
		t.Errorf("tap: %+v, want code 0", r)
	}
}

// watched is what a running command has printed.
type watched struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *watched) Write(p []byte) (int, error) { w.mu.Lock(); defer w.mu.Unlock(); return w.b.Write(p) }

func (w *watched) String() string { w.mu.Lock(); defer w.mu.Unlock(); return w.b.String() }

// A client with a time limit would break every tap that outlasts it.
func TestTapHasNoTimeLimit(t *testing.T) {
	client, err := (&Flags{Kubeconfig: fakekube.Start(t).Kubeconfig("alice", "")}).tapAPI().rest()
	if err != nil {
		t.Fatal(err)
	}
	if limit := client.(*rest.RESTClient).Client.Timeout; limit != 0 {
		t.Errorf("limit of %s", limit)
	}
}

func TestNodeStatuses(t *testing.T) {
	w, agents := newWorld(t, "a", "b")
	agents[1].Stop()
	flags := &Flags{Kubeconfig: w.kube.Kubeconfig("alice", "")}
	statuses, errs := flags.NodeStatuses(t.Context())
	if len(statuses) != 1 || statuses["a"].GetVersion() != "v0.0-test" || len(errs) != 1 || !strings.Contains(errs["b"].Error(), "the agent of b") {
		t.Errorf("statuses %v, errors %v; want the status of a, and an error that names b", statuses, errs)
	}
	w.stop()
	if statuses, errs = flags.NodeStatuses(t.Context()); len(statuses) != 0 || len(errs) != 1 || errs[""] == nil {
		t.Errorf("with the controller away: %v, %v", statuses, errs)
	}
}

func TestDiagnostics(t *testing.T) {
	w, agents := newWorld(t, "a", "b")
	outside := mesh.Endpoint{Addr: netip.MustParseAddrPort("192.0.2.7:80")}
	inside := mesh.Endpoint{Addr: netip.MustParseAddrPort("10.1.0.1:8080"), Workload: w.workloads[0], Ready: true}
	w.services = []*mesh.Service{{
		Name: "web", Namespace: "shop", VIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")},
		Ports: []mesh.ServicePort{{Port: 80, NodePort: 30080, Endpoints: []mesh.Endpoint{inside, outside}}, {Port: 81}},
	}}
	want := `NAMESPACE   IP          PORT   POD     SERVICE    READY   IDENTITY
shop        10.1.0.1    8080   web-a   web.shop   true    spiffe://cluster.local/ns/shop/sa/web
shop        192.0.2.7   80     -       web.shop   false   -
`
	for _, authority := range []string{"web.shop:80", "web.shop.svc.cluster.local:80", "web.shop.svc:80", "10.96.0.1:80", "192.0.2.1:30080"} {
		if diff := cmp.Diff(want, w.run(t.Context(), "alice", "diagnostics", "endpoints", authority).out); diff != "" {
			t.Errorf("%s: %s", authority, diff)
		}
	}
	if r := w.run(t.Context(), "alice", "dg", "endpoints", "web.shop:81", "-o", "json"); r.code != 0 || r.out != "[]\n" {
		t.Errorf("no endpoints: %+v", r)
	}
	if r := w.run(t.Context(), "alice", "dg", "endpoints", "web.shop:82", "web.shop:80"); r.code != 1 || r.out != want || !strings.Contains(r.err, "web.shop:82: no service has") {
		t.Errorf("one of two: %+v", r)
	}
	for _, authority := range []string{"192.0.2.1:80", "192.0.2.2:30080", "10.96.0.1:30080", "web.shop:30080", "192.0.2.1:0"} {
		if r := w.run(t.Context(), "alice", "dg", "endpoints", authority); r.code != 1 || r.out == want {
			t.Errorf("%s is no port of a service: %+v", authority, r)
		}
	}
	if r := w.run(t.Context(), "alice", "dg", "state"); r.out != "{\n  \"version\": 7\n}\n" {
		t.Errorf("diagnostics state: %+v, want the controller's, indented", r)
	}
	if r := w.run(t.Context(), "alice", "dg", "state", "b"); r.out != "{\n  \"node\": \"b\"\n}\n" {
		t.Errorf("diagnostics state b: %+v, want that of node b, indented", r)
	}
	if r := w.run(t.Context(), "alice", "dg", "controller-metrics"); r.out != "controller_metric 1\n" {
		t.Errorf("diagnostics controller-metrics: %+v, want one metric", r)
	}
	w.kube.Pods = []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-b"}, Spec: corev1.PodSpec{NodeName: "b"}}}
	if r := w.run(t.Context(), "alice", "dg", "proxy-metrics", "web-b"); r.out != "# NODE b (1 of 1)\nfake_metric 1\n" {
		t.Errorf("diagnostics proxy-metrics web-b: %+v, want those of its node", r)
	}
	agents[0].Stop()
	if r := w.run(t.Context(), "alice", "dg", "proxy-metrics"); r.code != 1 || r.out != "# NODE b (2 of 2)\nfake_metric 1\n" || !strings.Contains(r.err, "the agent of a") {
		t.Errorf("one away: %+v", r)
	}
}

func TestIdentity(t *testing.T) {
	w, agents := newWorld(t, "a")
	id := w.workloads[0].Identity
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	chain, _, err := w.authority.SignWorkload(csr, id, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	agents[0].St.Pods = []*agentv1.Pod{
		{Namespace: "shop", Name: "web-a", State: "enrolled", Identity: id.String()},
		{Namespace: "shop", Name: "new", State: "pending", Identity: "spiffe://cluster.local/ns/shop/sa/new"},
	}
	agents[0].St.Certificates = []*agentv1.Certificate{{Identity: id.String(), State: "valid", Chain: chain}}
	for _, name := range []string{"web-a", "new", "bare"} {
		w.kube.Pods = append(w.kube.Pods, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{"app": name}},
			Spec:       corev1.PodSpec{NodeName: "a"},
		})
	}
	for _, args := range [][]string{{"identity", "web-a"}, {"identity", "-l", "app=web-a"}} {
		r := w.run(t.Context(), "alice", args...)
		for _, want := range []string{"\nPOD web-a (1 of 1)\n\nCertificate:\n", "URI:spiffe://cluster.local/ns/shop/sa/web\n", "Issuer: CN=cluster.local root", "Not After :"} {
			if r.code != 0 || !strings.Contains(r.out, want) {
				t.Errorf("%v: no %q: %+v", args, want, r)
			}
		}
	}
	r := w.run(t.Context(), "alice", "identity", "new", "bare")
	if r.code != 1 || !strings.Contains(r.err, "has no certificate for spiffe://cluster.local/ns/shop/sa/new yet") || !strings.Contains(r.err, "pod bare is not in the mesh") {
		t.Errorf("identity of a pod without a certificate and of one outside the mesh: %+v, want code 1 and both causes", r)
	}
	if r := w.run(t.Context(), "alice", "identity", "gone"); r.code != 1 || !strings.Contains(r.err, `pods "gone" not found`) {
		t.Errorf("identity of no pod: %+v, want code 1 and that it is not found", r)
	}
	if r := w.run(t.Context(), "alice", "identity"); r.code != 1 || !strings.Contains(r.err, "which pods?") {
		t.Errorf("identity without a name: %+v, want code 1 and the question which pods", r)
	}
}

// TestTopPods: what pods cost on all nodes is one table, and a node that does not answer is
// named.
func TestTopPods(t *testing.T) {
	w, agents := newWorld(t, "a", "b", "gone")
	for i, a := range agents {
		a.Cost.Pods = []*agentv1.PodCost{
			{Namespace: "shop", Name: "web-" + a.Name, Uid: a.Name, Weight: 39, Outbound: &agentv1.Cost{Connections: uint64(i + 1)}},
			{Namespace: "base", Name: "db-" + a.Name, Uid: "db-" + a.Name, Weight: 100},
		}
	}
	agents[2].Stop()
	got := w.run(t.Context(), "alice", "top", "--pods", "--once", "--duration", "1ms", "--sort", "conns")
	want := `Pod          CPU  CPU Time  Wait  Waits/s  Memory  Conns  FDs  Weight  Node
shop/web-b  0.0%        0s  0.0%        0      0B      2    0      39     b
shop/web-a  0.0%        0s  0.0%        0      0B      1    0      39     a
(agent)     0.0%         -     -        -       -      -    -       -     a
(agent)     0.0%         -     -        -       -      -    -       -     b
`
	if diff := cmp.Diff(want, got.out); diff != "" || got.code != 0 {
		t.Errorf("code %d, stderr %q (-want +got):\n%s", got.code, got.err, diff)
	}
	if strings.Count(got.err, "‼ node gone is not in the table: the agent of gone") != 1 {
		t.Errorf("stderr: got %q, want the node that does not answer, once", got.err)
	}
	got = w.run(t.Context(), "alice", "top", "--pods", "-A", "-o", "json", "--duration", "1ms")
	for _, want := range []string{`"pod": "db-a"`, `"pod": "web-b"`, `"node": "b"`} {
		if got.code != 0 || !strings.Contains(got.out, want) {
			t.Errorf("all namespaces: got %+v, want %s", got, want)
		}
	}
	w.kube.Allow = func(s authorizationv1.SubjectAccessReviewSpec) bool { return s.User == "alice" }
	if got = w.run(t.Context(), "jane", "top", "--pods", "--once"); got.code == 0 || !strings.Contains(got.err, "may not see costs") {
		t.Errorf("without the right: got %+v, want an error that says so", got)
	}
}
