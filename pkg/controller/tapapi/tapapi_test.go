package tapapi

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protodelim"
	authorizationv1 "k8s.io/api/authorization/v1"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/fanin"
	"github.com/underlane/underlane/pkg/listener"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls/ca"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/test/fakeagent"
	"github.com/underlane/underlane/test/fakekube"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a cluster with its API server, its controller and its agents.
type world struct {
	t         *testing.T
	kube      *fakekube.Kube
	authority *ca.Authority
	server    *Server

	mu        sync.Mutex
	nodes     []fanin.Node
	workloads []*mesh.Workload
	services  []*mesh.Service
	routes    []*mesh.Route
	labels    map[string]map[string]string // of pods by UID
	starting  bool                         // the controller does not know the cluster yet
}

func (w *world) Nodes() []fanin.Node       { w.mu.Lock(); defer w.mu.Unlock(); return w.nodes }
func (w *world) NodeAddrs() []netip.Addr   { return nil }
func (w *world) Services() []*mesh.Service { w.mu.Lock(); defer w.mu.Unlock(); return w.services }
func (w *world) Routes() []*mesh.Route     { w.mu.Lock(); defer w.mu.Unlock(); return w.routes }

func (w *world) Workloads() []*mesh.Workload {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.starting {
		return nil
	}
	return w.workloads
}

func (w *world) Labels(uid string) map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.labels[uid]
}

func newWorld(t *testing.T, change ...func(*Options)) *world {
	t.Helper()
	w := &world{t: t, kube: fakekube.Start(t), authority: fakeagent.Authority(t)}
	opt := Options{
		Addr: "127.0.0.1:0", Client: w.kube.Client(), Authority: w.authority, Cluster: w,
		Namespace: "underlane-system", Service: "underlane-controller",
		State:   func() any { return map[string]int{"version": 7} },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "controller_metric 1\n") }),
		Accepts: &listener.Group{Log: slog.New(slog.DiscardHandler)},
		Log:     slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	for _, f := range change {
		f(&opt)
	}
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	w.server = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error("Run:", err)
		}
	})
	w.kube.Serve(s.Addr().String())
	return w
}

// agent adds a node with an agent and a pod web-NODE of deployment web.
func (w *world) agent(name string) *fakeagent.Agent {
	a := fakeagent.Start(w.t, w.authority, name, "")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes = append(w.nodes, fanin.Node{Name: name, Address: a.Addr})
	w.workloads = append(w.workloads, a.Workload("shop", "web-"+name, "web"))
	return a
}

// get calls the API through the API server.
func (w *world) get(ctx context.Context, user, path, accept string) *http.Response {
	w.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.kube.URL+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+user)
	r.Header.Set("Accept", accept)
	resp, err := w.kube.HTTP.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// body is all of a short answer.
func (w *world) body(user, path string) (int, string) {
	w.t.Helper()
	resp := w.get(w.t.Context(), user, path, "application/json")
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func request(a *fakeagent.Agent) tap.Event {
	return tap.Event{
		Kind: tap.RequestInit, Base: 1, Stream: 1, Method: "GET", Path: "/of/" + a.Name, TLS: tap.TLSTrue,
		Source: tap.Peer{Workload: a.Workload("shop", "web-"+a.Name, "web")},
	}
}

func TestTapThroughTheAPIServer(t *testing.T) {
	w := newWorld(t)
	a, b := w.agent("a"), w.agent("b")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	resp := w.get(ctx, "alice", tapv1alpha1.TapPath("shop", "deployments", "web")+"?method=GET", tapv1alpha1.MediaProtobuf)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != tapv1alpha1.MediaProtobuf {
		t.Fatalf("%s, %v; want 200 and protobuf", resp.Status, resp.Header)
	}
	// The head has been sent: nothing is missed from here on.
	a.Emit(request(a))
	b.Emit(request(b))
	in, seen := bufio.NewReader(resp.Body), map[string]bool{}
	for len(seen) < 2 {
		var batch agentv1.TapEvents
		if err := protodelim.UnmarshalFrom(in, &batch); err != nil {
			t.Fatal(err)
		}
		for _, e := range batch.GetEvents() {
			seen[e.GetPath()] = true
		}
	}
	want := authorizationv1.SubjectAccessReviewSpec{
		User: "alice", Groups: []string{"system:authenticated"}, Extra: nil,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: "tap.underlane.io", Version: "v1alpha1", Verb: "watch", Namespace: "shop",
			Resource: "deployments", Subresource: "tap", Name: "web",
		},
	}
	if diff := cmp.Diff([]authorizationv1.SubjectAccessReviewSpec{want}, w.kube.Reviews()); diff != "" {
		t.Error(diff)
	}
	cancel() // the caller hangs up
	for deadline := time.Now().Add(10 * time.Second); a.Hub.Active() || w.server.taps.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the tap outlives its caller")
		}
	}
}

// A selector chooses among the target's pods, and goes on choosing as their
// labels change.
func TestTapWithASelector(t *testing.T) {
	w := newWorld(t)
	a, b := w.agent("a"), w.agent("b")
	green := func(agent string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.labels = map[string]map[string]string{"shop/web-" + agent: {"colour": "green"}}
	}
	green("a")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	resp := w.get(ctx, "alice", tapv1alpha1.TapPath("shop", "deployments", "web")+"?labelSelector=colour%3Dgreen", tapv1alpha1.MediaProtobuf)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, want 200", resp.Status)
	}
	in := bufio.NewReader(resp.Body)
	next := func() string {
		t.Helper()
		for {
			var batch agentv1.TapEvents
			if err := protodelim.UnmarshalFrom(in, &batch); err != nil {
				t.Fatal(err)
			}
			for _, e := range batch.GetEvents() {
				return e.GetPath()
			}
		}
	}
	b.Emit(request(b))
	a.Emit(request(a))
	if got := next(); got != "/of/a" {
		t.Errorf("heard %s, and only a is green", got)
	}
	green("b")
	stop := make(chan struct{})
	defer close(stop)
	go func() { // until it is noticed
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				a.Emit(request(a))
				b.Emit(request(b))
			}
		}
	}()
	for onlyB, heard := 0, 0; onlyB < 5; heard++ { // of a some are under way still
		if onlyB++; next() != "/of/b" {
			onlyB = 0
		}
		if heard == 200 {
			t.Fatal("a is heard still, and only b is green")
		}
	}
}

// TestTapWithHeaders: header fields need a right of their own. Who asks for them if allowed
// gets a tap without them, and is told.
func TestTapWithHeaders(t *testing.T) {
	w := newWorld(t)
	a := w.agent("a")
	w.kube.Allow = func(s authorizationv1.SubjectAccessReviewSpec) bool {
		return s.User == "alice" || s.ResourceAttributes.Verb == "watch"
	}
	e := request(a)
	secrets, err := tap.NewRedaction()
	if err != nil {
		t.Fatal(err)
	}
	e.Headers = tap.Add(secrets, nil, "accept", "text/html", false)
	const warning = `user \"jane\" may not tap the headers of deployments/web in namespace shop: ask for the ClusterRole underlane-tap-headers`
	for _, c := range []struct {
		user, query string
		code        int
		headers     bool
		want        string
	}{
		{"alice", "", 200, false, ""},
		{"alice", "?headers=true", 200, true, ""},
		{"alice", "?headers=if-allowed", 200, true, ""},
		{"jane", "", 200, false, ""},
		{"jane", "?headers=true", 403, false, warning},
		{"jane", "?headers=if-allowed", 200, false, warning},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		resp := w.get(ctx, c.user, tapv1alpha1.TapPath("shop", "deployments", "web")+c.query, "application/json")
		got := ""
		if resp.StatusCode == http.StatusOK {
			a.Emit(e)
		}
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if got += lines.Text(); strings.Contains(got, "requestInitEvent") {
				break
			}
		}
		cancel()
		if resp.StatusCode != c.code || strings.Contains(got, "text/html") != c.headers || !strings.Contains(got, c.want) || c.want == "" && strings.Contains(got, "warning") {
			t.Errorf("%s %s: got %d %s, want %d, headers %v, %q", c.user, c.query, resp.StatusCode, got, c.code, c.headers, c.want)
		}
	}
	if got := w.kube.Reviews(); len(got) != 10 || got[2].ResourceAttributes.Verb != "headers" || got[2].ResourceAttributes.Subresource != "tap" {
		t.Errorf("the API server was asked %d times, the third time for %+v; want 10, and the verb headers of deployments/tap", len(got), got[2].ResourceAttributes)
	}
}

func TestTapAsJSONLines(t *testing.T) {
	w := newWorld(t)
	a := w.agent("a")
	w.workloads = append(w.workloads, &mesh.Workload{Namespace: "shop", Name: "old", Node: "a", OwnerKind: "pod", OwnerName: "old"})
	resp := w.get(t.Context(), "alice", tapv1alpha1.TapPath("shop", "", ""), "application/json, */*")
	a.Emit(request(a))
	lines := bufio.NewScanner(resp.Body)
	var got []string
	for len(got) < 2 && lines.Scan() {
		var object map[string]any
		if err := json.Unmarshal(lines.Bytes(), &object); err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		got = append(got, lines.Text())
	}
	if !strings.Contains(got[0], `"warning":"1 of 2 pods of namespace/shop are not in the mesh"`) || !strings.Contains(got[1], `"path":"/of/a"`) {
		t.Errorf("%q, want a warning of the pod that is not in the mesh, and an event of node a", got)
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.agent("a")
	w.kube.Allow = func(s authorizationv1.SubjectAccessReviewSpec) bool { return s.User == "alice" }
	for _, c := range []struct {
		user, path string
		code       int
		want       string
	}{
		{"jane", tapv1alpha1.TapPath("shop", "deployments", "web"), 403, `user "jane" may not tap deployments/web in namespace shop: ask for the ClusterRole underlane-tap-admin`},
		{"jane", tapv1alpha1.TapPath("shop", "", ""), 403, `user "jane" may not tap everything in namespace shop: ask`},
		{"jane", tapv1alpha1.Prefix + "/nodes", 403, `user "jane" may not see nodes: ask`},
		{"jane", tapv1alpha1.NodePath("a", "dump"), 403, `user "jane" may not dump nodes/a: ask`},
		{"jane", tapv1alpha1.Prefix + "/state", 403, `user "jane" may not see state: ask`},
		{"jane", tapv1alpha1.Prefix + "/", 404, "there is no /apis"},
		{"alice", tapv1alpha1.TapPath("shop", "deployments", "wep"), 404, "there is no pod of deployment/wep in namespace shop"},
		{"alice", tapv1alpha1.TapPath("shop", "services", "web"), 404, "there is no service web in namespace shop"},
		{"alice", tapv1alpha1.TapPath("shop", "secrets", "web"), 404, "there is no /apis"},
		{"alice", tapv1alpha1.TapPath("shop", "deployments", "web") + "?metod=GET", 400, `there is no parameter \"metod\"`},
		{"alice", tapv1alpha1.TapPath("shop", "deployments", "web") + "?to=x/y", 400, "--to"},
		{"alice", tapv1alpha1.TapPath("shop", "deployments", "web") + "?labelSelector=a,,", 400, "is no key of a label"},
		{"alice", tapv1alpha1.TapPath("shop", "services", "web") + "?labelSelector=a", 400, "a service has its own selector"},
		{"alice", tapv1alpha1.TapPath("shop", "deployments", "a/b"), 400, "not a Kubernetes name"},
		{"alice", tapv1alpha1.TapPath("SHOP", "", ""), 400, "namespace SHOP"},
		{"alice", tapv1alpha1.NodePath("b", "status"), 404, `there is no node \"b\"`},
		{"alice", tapv1alpha1.Prefix + "/endpoints?authority=web", 400, "HOST:PORT"},
		{"alice", tapv1alpha1.Prefix + "/endpoints?authority=web.shop:80", 404, "no service has"},
	} {
		code, body := w.body(c.user, c.path)
		var status struct {
			Kind, Message string
			Code          int
		}
		if err := json.Unmarshal([]byte(body), &status); err != nil || status.Kind != "Status" || status.Code != code {
			t.Errorf("%s: no Status object: %s", c.path, body)
		}
		if code != c.code || !strings.Contains(status.Message, strings.ReplaceAll(c.want, `\"`, `"`)) {
			t.Errorf("%s %s: %d %s, want %d and %q", c.user, c.path, code, body, c.code, c.want)
		}
	}
	w.kube.Down(true)
	defer w.kube.Down(false)
	if code, _ := w.body("alice", tapv1alpha1.Prefix+"/nodes"); code != http.StatusServiceUnavailable {
		t.Errorf("with the API server away: %d", code)
	}
}

// A client that is not the front proxy gets nothing, whatever its headers say.
func TestOnlyTheFrontProxyIsBelieved(t *testing.T) {
	w := newWorld(t)
	other := fakekube.Start(t)
	serving := x509.NewCertPool()
	for _, c := range w.authority.Anchors() {
		serving.AddCert(c)
	}
	pod, err := w.authority.ControllerCertificate(time.Hour) // of the mesh's own CA
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cert *tls.Certificate
		user string
		code int
	}{
		"the front proxy":       {ptr(w.kube.FrontProxy("front-proxy-client")), "alice", 200},
		"it names no user":      {ptr(w.kube.FrontProxy("front-proxy-client")), "", 401},
		"nobody":                {nil, "system:admin", 401},
		"another name":          {ptr(w.kube.FrontProxy("kubelet")), "system:admin", 401},
		"another CA":            {ptr(other.FrontProxy("front-proxy-client")), "system:admin", 401},
		"a certificate of ours": {&pod, "system:admin", 401},
	} {
		config := &tls.Config{RootCAs: serving, ServerName: "underlane-controller.underlane-system.svc"}
		if c.cert != nil {
			config.Certificates = []tls.Certificate{*c.cert}
		}
		transport := &http.Transport{TLSClientConfig: config}
		for path, code := range map[string]int{tapv1alpha1.Prefix: c.code, tapv1alpha1.Prefix + "/nodes": c.code, "/healthz": 200} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+w.server.Addr().String()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Remote-User", c.user)
			r.Header.Set("X-Remote-Group", "system:masters")
			resp, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != code {
				t.Errorf("%s: %s: %d, want %d", name, path, resp.StatusCode, code)
			}
		}
		transport.CloseIdleConnections()
	}
	if n := len(w.kube.Reviews()); n != 1 {
		t.Errorf("%d reviews: strangers must not get that far", n)
	}
}

func ptr[T any](v T) *T { return &v }

func TestNodes(t *testing.T) {
	w := newWorld(t)
	w.agent("a")
	w.agent("gone").Stop()
	code, body := w.body("alice", tapv1alpha1.Prefix+"/nodes")
	var list tapv1alpha1.NodeList
	if err := json.Unmarshal([]byte(body), &list); err != nil || code != 200 || len(list.Items) != 2 {
		t.Fatalf("%d, error %v, %s; want 200 and two nodes", code, err, body)
	}
	if a := list.Items[0]; a.Metadata.Name != "a" || !strings.Contains(string(a.Status), `"v0.0-test"`) || a.Error != "" {
		t.Errorf("a: %+v", a)
	}
	if g := list.Items[1]; g.Status != nil || !strings.Contains(g.Error, "the agent of gone") {
		t.Errorf("gone: %+v", g)
	}
	code, body = w.body("alice", tapv1alpha1.Prefix+"/costs")
	var costs tapv1alpha1.NodeList
	if err := json.Unmarshal([]byte(body), &costs); err != nil || code != 200 || len(costs.Items) != 2 {
		t.Fatalf("costs: %d %v %s", code, err, body)
	}
	if a, g := costs.Items[0], costs.Items[1]; !strings.Contains(string(a.Costs), `"node":"a"`) || g.Costs != nil || !strings.Contains(g.Error, "the agent of gone") {
		t.Errorf("costs: %+v", costs)
	}
	for what, want := range map[string]string{"status": `"v0.0-test"`, "dump": `{"node":"a"}`, "metrics": "fake_metric 1"} {
		if code, body := w.body("alice", tapv1alpha1.NodePath("a", what)); code != 200 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want 200 and %s", what, code, body, want)
		}
	}
	if code, body := w.body("alice", tapv1alpha1.NodePath("gone", "status")); code != 502 {
		t.Errorf("gone: %d %s", code, body)
	}
	if code, body := w.body("alice", tapv1alpha1.Prefix+"/state"); code != 200 || body != "{\"version\":7}\n" {
		t.Errorf("state: %d %s", code, body)
	}
	if code, body := w.body("alice", tapv1alpha1.Prefix+"/metrics"); code != 200 || body != "controller_metric 1\n" {
		t.Errorf("metrics: %d %s", code, body)
	}
}

func TestCABundleFollowsTheAnchors(t *testing.T) {
	w := newWorld(t)
	for range 2 { // the second time there is nothing to do
		if err := w.server.writeCABundle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w.kube.CABundle() != string(w.authority.AnchorsPEM()) {
			t.Error("the caBundle is not the trust anchors")
		}
	}
	w.kube.Down(true)
	if err := w.server.writeCABundle(t.Context()); err == nil {
		t.Error("no error with the API server away")
	}
}
