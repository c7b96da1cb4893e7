package tapapi

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	authorizationv1 "k8s.io/api/authorization/v1"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/fanin"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/test/fakeagent"
)

// calls lets both agents count n calls between pods of their nodes, of which some fail.
func calls(from, to *fakeagent.Agent, client, server *mesh.Workload, n, failing int) {
	for i := range n {
		e := tap.Event{
			Kind: tap.ResponseEnd, TLS: tap.TLSTrue, Protocol: "http2", Status: 200, Latency: 5 * time.Millisecond, Duration: 5 * time.Millisecond,
			Source: tap.Peer{Workload: client}, Destination: tap.Peer{Workload: server},
		}
		if i < failing {
			e.Status = 503
		}
		in := e
		in.Direction, in.Latency = mesh.Inbound, 3*time.Millisecond
		e.Service = &mesh.Service{Namespace: server.Namespace, Name: server.OwnerName}
		from.Emit(e)
		to.Emit(in)
	}
}

// figures asks as user, and returns the answer and the status.
func (w *world) figures(user, namespace, query string) (f tapv1alpha1.Figures, code int, text string) {
	w.t.Helper()
	path := tapv1alpha1.FiguresPath(namespace)
	if query != "" {
		path += "?" + query
	}
	code, text = w.body(user, path)
	if code == http.StatusOK {
		if err := json.Unmarshal([]byte(text), &f); err != nil {
			w.t.Fatal(err)
		}
	}
	return f, code, text
}

// lines are the edges as text, with the requests of each.
func lines(f *tapv1alpha1.Figures) (out []string) {
	for _, e := range f.Edges {
		text := fmt.Sprintf("%s > %s %d of %d", f.Resources[e.Source].Name, f.Resources[e.Destination].Name, e.Total.Success, e.Total.Requests)
		if e.Partial {
			text += " partial"
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

// twoNamespaces is a cluster of two nodes: web (shop, node a) calls db (data, node b), and
// cron (jobs, node b) calls db.
func twoNamespaces(t *testing.T) (w *world, a, b *fakeagent.Agent) {
	w = newWorld(t)
	a, b = w.agent("a"), w.agent("b")
	web, db, cron := w.workloads[0], b.Workload("data", "db-1", "db"), b.Workload("jobs", "cron-1", "cron")
	w.workloads = append(w.workloads, db, cron)
	calls(a, b, web, db, 40, 10)
	calls(b, b, cron, db, 5, 0)
	return w, a, b
}

func TestFigures(t *testing.T) {
	w, _, _ := twoNamespaces(t)
	f, code, text := w.figures("root", "", "")
	if code != http.StatusOK {
		t.Fatalf("%d %s, want 200", code, text)
	}
	if diff := cmp.Diff([]string{"cron > db 5 of 5", "web > db 30 of 40"}, lines(&f)); diff != "" {
		t.Error("(-want +got):", diff)
	}
	if f.Nodes != (tapv1alpha1.Nodes{Asked: 2, Answered: 2}) || len(f.Warnings) != 0 {
		t.Errorf("%+v, warnings %q, want 2 of 2 without warnings", f.Nodes, f.Warnings)
	}
	for _, tc := range []struct {
		query string
		want  []string
		p50   float64
	}{
		{"kind=deployment&name=web", []string{"web > db 30 of 40"}, 4.97}, // the client's side
		{"kind=deployment&name=web&side=destination", []string{"web > db 30 of 40"}, 2.95},
		{"by=namespace&namespace=shop", []string{"shop > data 30 of 40"}, 4.97},
		{"by=pod&kind=svc&name=db&from=deploy/cron", []string{"cron-1 > db-1 5 of 5"}, 4.97},
		{"to=deploy/db&to-namespace=elsewhere", nil, 0},
		{"protocol=grpc", nil, 0},
	} {
		f, code, text := w.figures("root", "", tc.query)
		if diff := cmp.Diff(tc.want, lines(&f)); diff != "" || code != http.StatusOK {
			t.Errorf("%s: %d %s (-want +got):\n%s", tc.query, code, text, diff)
		} else if tc.want != nil && (f.Edges[0].Total.Latency.P50 < tc.p50*0.99 || f.Edges[0].Total.Latency.P50 > tc.p50*1.01) {
			t.Errorf("%s: median %v ms, want %v", tc.query, f.Edges[0].Total.Latency.P50, tc.p50)
		}
	}
	for _, query := range []string{"by=cluster", "windwo=1m", "kind=web", "window=30h", "to=web"} {
		if _, code, text := w.figures("root", "", query); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s, want 400", query, code, text)
		}
	}
}

// TestManyQuestions: questions above the limit are refused, and cost the agents nothing.
func TestManyQuestions(t *testing.T) {
	w, _, _ := twoNamespaces(t)
	w.server.asked.Add(maxAsked)
	for _, path := range []string{tapv1alpha1.FiguresPath(""), tapv1alpha1.RoutesPath("shop")} {
		if code, text := w.body("root", path); code != http.StatusTooManyRequests {
			t.Errorf("%s: %d %s, want 429", path, code, text)
		}
	}
	w.server.asked.Add(-maxAsked)
	if f, code, text := w.figures("root", "", ""); code != http.StatusOK || f.Nodes.Answered != 2 || w.server.asked.Load() != 0 {
		t.Errorf("then: %d %s, want an answer", code, text)
	}
}

// TestFiguresRights: a user with rights in one namespace sees the edges of that namespace.
func TestFiguresRights(t *testing.T) {
	w, _, _ := twoNamespaces(t)
	w.kube.Allow = func(review authorizationv1.SubjectAccessReviewSpec) bool {
		a := review.ResourceAttributes
		return a.Group == tapv1alpha1.Group && a.Resource == "figures" && a.Verb == "list" && a.Namespace == "shop"
	}
	f, code, text := w.figures("ann", "shop", "")
	if diff := cmp.Diff([]string{"web > db 30 of 40"}, lines(&f)); diff != "" || code != http.StatusOK {
		t.Errorf("%d %s (-want +got):\n%s", code, text, diff)
	}
	if strings.Contains(text, "cron") {
		t.Errorf("%s names a workload that has nothing to do with the namespace", text)
	}
	for _, tc := range []struct{ namespace, query string }{{"", ""}, {"data", ""}, {"", "namespace=shop"}} {
		if _, code, text := w.figures("ann", tc.namespace, tc.query); code != http.StatusForbidden || !strings.Contains(text, tapv1alpha1.ClusterRole) {
			t.Errorf("namespace %q %s: %d %s, want 403 with what to ask for", tc.namespace, tc.query, code, text)
		}
	}
	for _, query := range []string{"namespace=data", "kind=namespace&name=data", "kind=ns&name=jobs"} {
		if _, code, text := w.figures("ann", "shop", query); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s, want 400", query, code, text)
		}
	}
	w.labels = map[string]map[string]string{"data/db-1": {"secret": "yes"}, "shop/web-a": {"colour": "green"}}
	for query, want := range map[string]int{"labelSelector=secret": 0, "labelSelector=colour%3Dgreen": 1} {
		if _, code, text := w.figures("ann", "shop", query); code != http.StatusOK || strings.Count(text, "selected") != want {
			t.Errorf("%s: %d %s, want %d selected resources: labels of other namespaces are not told", query, code, text, want)
		}
	}
	for _, query := range []string{"kind=ns", "kind=deployment&name=cron", "to=ns/data", "from=deploy/cron&from-namespace=jobs", "by=namespace", "by=pod"} {
		f, code, text := w.figures("ann", "shop", query)
		if code != http.StatusOK || strings.Contains(text, "cron") || strings.Contains(text, "jobs") || len(f.Edges) > 1 {
			t.Errorf("%s: %d %s, want nothing but the edge of shop", query, code, text)
		}
		for _, r := range f.Resources {
			if own := r.Namespace == "shop" || r.Name == "shop"; (r.Pods > 0 || len(r.Nodes) > 0) != own {
				t.Errorf("%s: %+v, want pods and nodes of shop alone", query, r)
			}
		}
	}
}

// TestRoutes reads the route of a Service with a canary, with the rights in its namespace.
func TestRoutes(t *testing.T) {
	w, a, b := twoNamespaces(t)
	web, db, canary := w.workloads[0], w.workloads[2], b.Workload("data", "canary-1", "canary")
	service := func(name string, w *mesh.Workload) *mesh.Service {
		return &mesh.Service{Namespace: "data", Name: name, Ports: []mesh.ServicePort{{Port: 80, Endpoints: []mesh.Endpoint{{Workload: w}}}}}
	}
	backend := func(name string, weight uint32) mesh.RouteBackend {
		return mesh.RouteBackend{Service: mesh.ServicePortRef{Namespace: "data", Name: name, Port: 80}, Weight: weight}
	}
	route := &mesh.Route{
		Kind: "HTTPRoute", Namespace: "data", Name: "split", Parent: mesh.ServicePortRef{Namespace: "data", Name: "db"},
		Rules: []mesh.RouteRule{{
			Matches:  []mesh.RouteMatch{{Method: "GET", Path: mesh.PathMatch{Value: "/a"}, Headers: []mesh.ValueMatch{{Name: "x", Value: "y.*", Regex: true}}}},
			Backends: []mesh.RouteBackend{backend("db", 9), backend("db-canary", 1)},
			Timeouts: mesh.RouteTimeouts{Request: time.Second}, Retry: &mesh.RouteRetry{Attempts: 2, Codes: []uint16{503}, Backoff: 25 * time.Millisecond},
		}},
	}
	other := *route
	other.Namespace, other.Parent.Namespace = "elsewhere", "elsewhere"
	w.services, w.routes = []*mesh.Service{service("db", db), service("db-canary", canary)}, []*mesh.Route{route, &other}
	for i := range 10 {
		e := tap.Event{
			Kind: tap.ResponseEnd, TLS: tap.TLSTrue, Protocol: "http1", Status: 200, Latency: 5 * time.Millisecond,
			Source: tap.Peer{Workload: web}, Destination: tap.Peer{Workload: db}, Service: w.services[0], Route: route, Rule: "0",
		}
		if i == 0 {
			e.Destination.Workload, e.Retries, e.Status = canary, 2, 503
		}
		a.Emit(e)
	}
	w.kube.Allow = func(review authorizationv1.SubjectAccessReviewSpec) bool {
		a := review.ResourceAttributes
		return a.Resource == "routes" && a.Verb == "list" && a.Namespace == "data"
	}
	code, text := w.body("ann", tapv1alpha1.RoutesPath("data"))
	var list tapv1alpha1.RouteList
	if err := json.Unmarshal([]byte(text), &list); err != nil || code != http.StatusOK || len(list.Items) != 2 || len(list.Items[0].Rules) != 1 {
		t.Fatalf("%d %v %s, want the route and what it had no say in", code, err, text)
	}
	rule := list.Items[0].Rules[0]
	latency := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Latency" || p.Last().String() == ".Split" }, cmp.Ignore())
	want := tapv1alpha1.RouteRule{
		Name: "0", Matches: []string{"GET /a/* x: ~y.*"}, Timeouts: "1s for the request", Retries: "2 after failed connections and 503, 25ms apart",
		Backends: []tapv1alpha1.RouteBackend{
			{Namespace: "data", Name: "db", Weight: 9, Total: &tapv1alpha1.Sums{Requests: 9, Success: 9}},
			{Namespace: "data", Name: "db-canary", Weight: 1, Total: &tapv1alpha1.Sums{Requests: 1, Failures: map[string]uint64{"status": 1}, Retries: 2}},
		},
		Total: tapv1alpha1.RouteTotal{
			Effective: &tapv1alpha1.Sums{Requests: 10, Success: 9, Failures: map[string]uint64{"status": 1}, Retries: 2},
			Actual:    &tapv1alpha1.Sums{Requests: 12, Success: 9, Failures: map[string]uint64{"status": 1, "retried": 2}},
		},
	}
	want.CoveredSeconds = rule.CoveredSeconds // since the agents began
	if diff := cmp.Diff(want, rule, latency); diff != "" {
		t.Error("(-want +got):", diff)
	}
	if rest := list.Items[1]; rest.Kind != "" || rest.Parent.Name != "db" || rest.Rules[0].Total.Effective.Requests != 45 {
		t.Errorf("%+v, want the 45 requests of db that no route had a say in", rest)
	}
	for _, namespace := range []string{"", "elsewhere"} {
		if code, text := w.body("ann", tapv1alpha1.RoutesPath(namespace)); code != http.StatusForbidden {
			t.Errorf("namespace %q: %d %s, want 403", namespace, code, text)
		}
	}
}

// TestFiguresOfSilentAgents: an agent that hangs or is away costs its part only, and soon.
func TestFiguresOfSilentAgents(t *testing.T) {
	w, a, b := twoNamespaces(t)
	if f, _, _ := w.figures("root", "", ""); f.Nodes.Answered != 2 { // the connections are there
		t.Fatalf("%+v, want 2 of 2", f.Nodes)
	}
	a.Stop()
	f, _, _ := w.figures("root", "", "")
	// What web has sent is told by the agent of db.
	if diff := cmp.Diff([]string{"cron > db 5 of 5", "web > db 30 of 40 partial"}, lines(&f)); diff != "" {
		t.Error("a is away (-want +got):", diff)
	}
	if f.Nodes != (tapv1alpha1.Nodes{Asked: 2, Answered: 1}) || len(f.Warnings) != 1 || !strings.HasPrefix(f.Warnings[0], "a: ") {
		t.Errorf("%+v, warnings %q, want 1 of 2 with one about a", f.Nodes, f.Warnings)
	}
	b.Stop()
	if f, code, text := w.figures("root", "", ""); code != http.StatusOK || f.Nodes.Answered != 0 || len(f.Warnings) != 2 {
		t.Errorf("nobody answers: %d %s, want an answer with two warnings", code, text)
	}
	a.Restart()
	deadline := time.Now().Add(30 * time.Second)
	for {
		if f, _, _ = w.figures("root", "", ""); f.Nodes.Answered == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a is back: %+v %q, want 1 of 2", f.Nodes, f.Warnings)
		}
		time.Sleep(50 * time.Millisecond)
	}

	hung, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	w.mu.Lock()
	w.nodes = append(w.nodes, fanin.Node{Name: "hung", Address: hung.Addr().String()})
	w.workloads = append(w.workloads, &mesh.Workload{Namespace: "shop", Name: "x", Node: "hung", Meshed: true})
	w.mu.Unlock()
	began := time.Now()
	f, _, _ = w.figures("root", "", "")
	if took := time.Since(began); f.Nodes.Answered != 1 || took > 10*time.Second {
		t.Errorf("%+v after %v, want 1 of 3 within some seconds", f.Nodes, took)
	}
}

// TestWideFigures asks 200 agents, each of which has counted 500 pairs of pods. What it
// measures is the time on two processors that are free: half of the processor time of the
// controller and all agents, which are in this process.
func TestWideFigures(t *testing.T) {
	const nodes, each, limit = wideNodes, 500, wideLimit
	w := newWorld(t)
	var agents []*fakeagent.Agent
	for i := range nodes {
		agents = append(agents, w.agent(fmt.Sprint("node-", i)))
	}
	for i, a := range agents {
		for j := range each {
			client := a.Workload("shop", fmt.Sprint("web-", j%20, "-", i), fmt.Sprint("web-", j%20))
			server := agents[(i+j)%nodes].Workload("data", fmt.Sprint("db-", j%25, "-", i), fmt.Sprint("db-", j%25))
			client.UID, server.UID = "", ""
			for k := range 5 {
				a.Emit(tap.Event{
					Kind: tap.ResponseEnd, TLS: tap.TLSTrue, Protocol: "http2", Status: 200, Latency: time.Duration(1+j+k*k) * time.Millisecond,
					Source: tap.Peer{Workload: client}, Destination: tap.Peer{Workload: server},
				})
			}
		}
	}
	best := time.Hour
	for range 20 {
		before := processorTime(t)
		f, code, text := w.figures("root", "", "")
		took := (processorTime(t) - before) / 2
		if code != http.StatusOK || f.Nodes.Asked != nodes {
			t.Fatalf("%d %.200s", code, text)
		}
		if f.Nodes.Answered < nodes {
			continue // handshakes with all of them at once, on a machine that is busy with others
		}
		var requests uint64
		for _, e := range f.Edges {
			requests += e.Total.Requests
		}
		if requests != nodes*each*5 || len(f.Edges) != 100 {
			t.Fatalf("%d edges with %d requests, want 100 with %d", len(f.Edges), requests, nodes*each*5)
		}
		t.Log(took)
		if best = min(best, took); best < limit {
			break
		}
	}
	if best > limit {
		t.Errorf("%v for %d agents, want at most %v", best, nodes, limit)
	}
}

// processorTime returns the processor time that this process has used.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
