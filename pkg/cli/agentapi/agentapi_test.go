package agentapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/agent/nodeapi"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/figures/table"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/wire"
)

// node is a node's agent without its kernel part.
type node struct {
	Agent
	hub  *tap.Hub
	stop func()
	dump atomic.Pointer[state.Dump]
	pods []*mesh.Workload
	open []*agentv1.OpenConnection
	used []*mesh.Workload // pods of other nodes that the agent knows
}

func (n *node) Report() *agentv1.ResourcesResponse {
	r := &agentv1.ResourcesResponse{Node: n.Node}
	for _, w := range n.pods {
		r.Pods = append(r.Pods, &agentv1.PodResource{
			Uid: w.UID, Namespace: w.Namespace, Name: w.Name, OwnerKind: w.OwnerKind, OwnerName: w.OwnerName, Meshed: w.Meshed, Ready: w.Ready,
			Containers: &agentv1.ContainerUsage{Known: 1, Cpu: 0.5},
		})
	}
	return r
}

func (n *node) List(context.Context, *agentv1.ConnectionsRequest) (*agentv1.ConnectionsResponse, error) {
	return &agentv1.ConnectionsResponse{Node: n.Node, Connections: n.open, Total: uint64(len(n.open))}, nil
}

func (n *node) Status(context.Context) *agentv1.StatusResponse {
	return &agentv1.StatusResponse{Node: n.Node, Version: "v1", Ready: true}
}

func (n *node) Dump(context.Context) ([]byte, error) {
	return json.Marshal(map[string]any{"maps": nil, "state": n.dump.Load()})
}

func workload(name, node string) *mesh.Workload {
	return &mesh.Workload{
		UID: "uid-" + name, Name: name + "-1", Namespace: "shop", Node: node, OwnerKind: "deployment", OwnerName: name, Meshed: true, Ready: true,
		Identity: mesh.Identity{TrustDomain: "d", Namespace: "shop", ServiceAccount: name}, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
	}
}

// startNode serves the node API of a node with these pods at a socket.
func startNode(t *testing.T, name string, pods ...*mesh.Workload) *node {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent.sock")
	ln, err := nodeapi.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	store := figures.NewStore(figures.Options{}, time.Now())
	n := &node{hub: tap.NewHub(store), pods: pods}
	n.dump.Store(&state.Dump{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	server := &nodeapi.Server{Hub: n.hub, Source: n, Dumper: n, Usage: n, Lister: n, Node: name, Memory: store, Pods: func() []*mesh.Workload { return pods }, Known: func() iter.Seq[*mesh.Workload] { return slices.Values(slices.Concat(pods, n.used)) }}
	go func() { done <- server.Serve(ctx, ln) }()
	n.stop = func() {
		if cancel(); done != nil {
			if err := <-done; err != nil {
				t.Error(err)
			}
			done = nil
		}
	}
	client, closeConn, err := Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	n.Agent = Agent{Node: name, Client: client}
	t.Cleanup(func() { closeConn(); n.stop() })
	return n
}

// call emits what the two agents of a call report, those that are not nil.
func call(client, server *node, from, to *mesh.Workload, status int, route *mesh.Route) {
	e := tap.Event{
		Kind: tap.ResponseEnd, TLS: tap.TLSTrue, Protocol: "http1", Status: status, Latency: 5 * time.Millisecond, Duration: 6 * time.Millisecond,
		Source: tap.Peer{Workload: from}, Destination: tap.Peer{Workload: to},
	}
	if client != nil {
		out := e
		out.Direction, out.Service = mesh.Outbound, &mesh.Service{Namespace: "shop", Name: to.OwnerName}
		if route != nil {
			out.Service, out.Route, out.Rule = &mesh.Service{Namespace: route.Parent.Namespace, Name: route.Parent.Name}, route, "0"
		}
		client.hub.Emit(&out)
	}
	if server != nil {
		e.Direction = mesh.Inbound
		server.hub.Emit(&e)
	}
}

func api(nodes ...*node) *API {
	a := &API{}
	for _, n := range nodes {
		a.Agents = append(a.Agents, n.Agent)
	}
	return a
}

func get(t *testing.T, a *API, path string, answer any) int {
	t.Helper()
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if err := json.Unmarshal(w.Body.Bytes(), answer); err != nil {
		t.Fatalf("%s: %v: %s", path, err, w.Body)
	}
	return w.Code
}

// edges are the edges of an answer as "from>to requests".
func edges(f *tapv1alpha1.Figures) (out []string) {
	for _, e := range f.Edges {
		partial := ""
		if e.Partial {
			partial = " partial"
		}
		out = append(out, fmt.Sprintf("%s>%s %d%s", f.Resources[e.Source].Name, f.Resources[e.Destination].Name, e.Total.Requests, partial))
	}
	return out
}

func TestFigures(t *testing.T) {
	web, idle, db := workload("web", "node-1"), workload("idle", "node-1"), workload("db", "node-2")
	one, two := startNode(t, "node-1", web, idle), startNode(t, "node-2", db)
	for range 4 {
		call(one, two, web, db, 200, nil)
	}
	for path, want := range map[string][]string{
		"/figures": {"web>db 4"}, // counted once
		"/namespaces/shop/figures?kind=svc&name=db": {"web>db 4"},
		"/namespaces/other/figures":                 nil,
	} {
		var f tapv1alpha1.Figures
		code := get(t, api(one, two), path, &f)
		if diff := cmp.Diff(want, edges(&f)); diff != "" || code != http.StatusOK || f.Nodes != (tapv1alpha1.Nodes{Asked: 2, Answered: 2}) {
			t.Errorf("%s: %d, %+v (-want +got):\n%s", path, code, f.Nodes, diff)
		}
	}
	// The agent of node-2 alone counts what its pods are sent.
	var f tapv1alpha1.Figures
	get(t, api(two), "/figures", &f)
	if diff := cmp.Diff([]string{"web>db 4"}, edges(&f)); diff != "" {
		t.Errorf("node-2 alone (-want +got):\n%s", diff)
	}
	// Without node-1 it is asked for what that one would count.
	one.stop()
	f = tapv1alpha1.Figures{}
	get(t, api(one, two), "/figures", &f)
	if diff := cmp.Diff([]string{"web>db 4 partial"}, edges(&f)); diff != "" || f.Nodes.Answered != 1 || len(f.Warnings) != 1 || !strings.HasPrefix(f.Warnings[0], "node-1: its agent does not answer") {
		t.Errorf("without node-1: %+v %q (-want +got):\n%s", f.Nodes, f.Warnings, diff)
	}
	two.stop()
	for path, want := range map[string]int{"/figures": 503, "/resources": 503, "/figures?by=x": 400, "/figures?kind=web": 400, "/connections": 503, "/connections?limit=x": 400, "/resources?kind=x": 400, "/check": 404, "/nodes/node-3/status": 404} {
		var status struct {
			Kind, Message, Reason string
			Code                  int
		}
		if code := get(t, api(one, two), path, &status); code != want || status.Kind != "Status" || status.Message == "" || status.Code != want {
			t.Errorf("%s: %d %+v, want a Status with %d", path, code, status, want)
		}
	}
}

// TestRowsOfASilentNode: stat has the rows of pods whose agent is silent, where somebody else
// knows the pods, and marks them.
func TestRowsOfASilentNode(t *testing.T) {
	web, idle, db, both := workload("web", "node-1"), workload("idle", "node-1"), workload("db", "node-2"), workload("both", "node-1")
	one, two := startNode(t, "node-1", web, idle, both), startNode(t, "node-2", db, workload("both", "node-2"))
	a := api(one, two)
	a.Pods = func(of string) []*mesh.Workload { return map[string]*node{"node-1": one, "node-2": two}[of].pods }
	stat := table.Stat{Kind: "deployment", Namespace: "shop", Window: time.Minute}
	rows := func() (out []string) {
		t.Helper()
		f, err := a.Figures(t.Context(), stat.Query())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range stat.Rows(f) {
			out = append(out, fmt.Sprintf("%s %s partial=%v", r.Name, r.MeshedText(), r.Partial))
		}
		return out
	}
	call(one, two, web, db, 200, nil)
	if diff := cmp.Diff([]string{"both 2/2 partial=false", "db 1/1 partial=false", "idle 1/1 partial=false", "web 1/1 partial=false"}, rows()); diff != "" {
		t.Errorf("both agents answer (-want +got):\n%s", diff)
	}
	one.stop()
	if diff := cmp.Diff([]string{"both 2/2 partial=true", "db 1/1 partial=false", "idle 1/1 partial=true", "web 1/1 partial=true"}, rows()); diff != "" {
		t.Errorf("node-1 is silent (-want +got):\n%s", diff)
	}
}

// TestSelectors: agents know the labels of pods, so that -l works without a controller.
func TestSelectors(t *testing.T) {
	web, green, db := workload("web", "node-1"), workload("green", "node-1"), workload("db", "node-2")
	web.Labels, green.Labels, db.Labels = "colour=blue,tier=front", "colour=green,tier=front", "colour=green"
	one, two := startNode(t, "node-1", web, green), startNode(t, "node-2", db)
	call(one, two, web, db, 200, nil)
	for range 2 {
		call(one, two, green, db, 200, nil)
	}
	a := api(one, two)
	for selector, want := range map[string][2]string{
		"":                        {"db green web", "green>db web>db"},
		"colour=green":            {"db green", "green>db web>db"},
		"tier=front,colour!=blue": {"green", "green>db"},
		"!tier":                   {"db", "green>db web>db"},
		"tier in (back)":          {"", ""},
	} {
		stat := table.Stat{Kind: "deployment", Namespace: "shop", Window: time.Minute, Selector: selector}
		f, err := a.Figures(t.Context(), stat.Query())
		if err != nil {
			t.Fatal(err)
		}
		var rows, pairs []string
		for _, r := range stat.Rows(f) {
			rows = append(rows, r.Name)
		}
		e := table.NewEdges("deployment", "shop")
		e.Query.Selector = selector
		if f, err = a.Figures(t.Context(), e.Query); err != nil {
			t.Fatal(err)
		}
		for _, r := range e.Rows(f) {
			pairs = append(pairs, r.Source+">"+r.Destination)
		}
		if got := [2]string{strings.Join(rows, " "), strings.Join(pairs, " ")}; got != want {
			t.Errorf("-l %q: rows and edges %q, want %q", selector, got, want)
		}
	}
	if _, err := a.Figures(t.Context(), tapv1alpha1.FiguresQuery{Selector: "a,,"}); err == nil || !strings.Contains(err.Error(), "selector") {
		t.Errorf("a selector that is none: %v, want an error", err)
	}
}

// TestSelectorsOfRoutes: routes -l counts the requests to pods with the labels, or by them.
func TestSelectorsOfRoutes(t *testing.T) {
	web, blue, db, canary := workload("web", "node-1"), workload("blue", "node-1"), workload("db", "node-2"), workload("db-v2", "node-2")
	web.Labels, blue.Labels, db.Labels, canary.Labels = "app=web", "app=blue", "track=stable", "track=canary"
	one, two := startNode(t, "node-1", web, blue), startNode(t, "node-2", db, canary)
	one.used = []*mesh.Workload{db, canary}
	route := &mesh.Route{Kind: "HTTPRoute", Namespace: "shop", Name: "r", Parent: mesh.ServicePortRef{Namespace: "shop", Name: "db"}, Rules: []mesh.RouteRule{{}}}
	one.dump.Store(&state.Dump{Routes: []*mesh.Route{route}})
	for n, c := range []struct{ from, to *mesh.Workload }{{web, db}, {web, canary}, {blue, canary}} {
		for range 1 << n {
			call(one, two, c.from, c.to, 200, route)
		}
	}
	for name, tc := range map[string]struct {
		q    tapv1alpha1.FiguresQuery
		want uint64
	}{
		"all":                     {tapv1alpha1.FiguresQuery{}, 7},
		"to":                      {tapv1alpha1.FiguresQuery{Selector: "track=canary"}, 6},
		"to a resource":           {tapv1alpha1.FiguresQuery{Selector: "track", To: "deploy/db", From: "deploy/web"}, 1},
		"by":                      {tapv1alpha1.FiguresQuery{Selector: "app!=web", From: "deploy"}, 4},
		"none":                    {tapv1alpha1.FiguresQuery{Selector: "track=x"}, 0},
		"in the namespace":        {tapv1alpha1.FiguresQuery{Selector: "track=canary", Namespace: "shop"}, 6},
		"not of other namespaces": {tapv1alpha1.FiguresQuery{Selector: "track=canary", Namespace: "other"}, 0},
	} {
		list, err := api(one, two).Routes(t.Context(), tc.q)
		if err != nil {
			t.Fatal(err)
		}
		var got uint64
		for _, r := range list.Items {
			for _, rule := range r.Rules {
				got += rule.Total.Effective.Requests
			}
		}
		if got != tc.want {
			t.Errorf("%s: %d requests, want %d", name, got, tc.want)
		}
	}
}

func TestErrorsAreExplained(t *testing.T) {
	n := startNode(t, "")
	n.stop()
	n.Explain = func(error) error { return errors.New("start it") }
	var status struct{ Message string }
	if get(t, api(n), "/figures", &status); status.Message != "start it" {
		t.Errorf("message %q, want what the caller says", status.Message)
	}
}

func TestResources(t *testing.T) {
	web, db := workload("web", "node-1"), workload("db", "node-2")
	outside := workload("old", "node-2")
	outside.Meshed = false
	a := api(startNode(t, "node-1", web), startNode(t, "node-2", db, outside))
	for path, want := range map[string][]string{
		"/resources":                {"deployment shop/db 1/1 [node-2]", "deployment shop/old 0/1 [node-2]", "deployment shop/web 1/1 [node-1]"},
		"/resources?kind=namespace": {"namespace /shop 2/3 [node-1 node-2]"},
		"/resources?kind=pod&namespace=shop&owner=db":        {"pod shop/db-1 1/1 [node-2]"},
		"/resources?kind=deployment&namespace=shop&name=web": {"deployment shop/web 1/1 [node-1]"},
		"/namespaces/other/resources":                        nil,
	} {
		var list tapv1alpha1.ResourceList
		code := get(t, a, path, &list)
		var got []string
		for _, r := range list.Items {
			got = append(got, fmt.Sprintf("%s %s/%s %d/%d %v", r.Kind, r.Namespace, r.Name, r.Meshed, r.Pods, r.Nodes))
			if r.Usage == nil || *r.Usage.CPU != 0.5*float64(r.Pods) {
				t.Errorf("%s: %s uses %+v, want half a processor for each pod", path, r.Name, r.Usage)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || code != http.StatusOK {
			t.Errorf("%s: %d (-want +got):\n%s", path, code, diff)
		}
	}
}

// TestConnections has one that two agents carry.
func TestConnections(t *testing.T) {
	web, db := workload("web", "node-1"), workload("db", "node-2")
	one, two := startNode(t, "node-1", web), startNode(t, "node-2", db)
	open := func(d mesh.Direction, source, local, remote string) *agentv1.OpenConnection {
		e := tap.Event{
			Kind: tap.ConnOpen, Direction: d, TLS: tap.TLSTrue, Protocol: "tcp", Time: time.Now(),
			Source:      tap.Peer{Addr: netip.MustParseAddrPort(source), Workload: web},
			Destination: tap.Peer{Addr: netip.MustParseAddrPort("10.0.0.2:5432"), Workload: db},
		}
		ends := &agentv1.OpenConnection_Ends{Local: local, Remote: remote}
		if d == mesh.Inbound {
			return &agentv1.OpenConnection{Event: wire.ToProto(&e), Client: ends}
		}
		return &agentv1.OpenConnection{Event: wire.ToProto(&e), Server: ends}
	}
	one.open = []*agentv1.OpenConnection{open(mesh.Outbound, "10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:5432")}
	two.open = []*agentv1.OpenConnection{open(mesh.Inbound, "10.0.0.1:2", "10.0.0.2:5432", "10.0.0.1:2")}
	for path, want := range map[string]int{"/connections": 1, "/namespaces/shop/connections?kind=deploy&name=db": 1, "/namespaces/other/connections": 0} {
		var list tapv1alpha1.ConnectionList
		code := get(t, api(one, two), path, &list)
		if code != http.StatusOK || len(list.Items) != want || list.Nodes.Answered != 2 {
			t.Errorf("%s: %d %+v, want %d", path, code, list, want)
		}
		for _, c := range list.Items {
			if c.Source.Name != "web" || c.Destination.Pod != "db-1" || c.SourceAddress != "10.0.0.1:1" || len(c.Legs) != 2 {
				t.Errorf("%s: %+v, want the connection of web to db as both agents see it", path, c)
			}
		}
	}
	two.stop()
	var list tapv1alpha1.ConnectionList
	if get(t, api(one, two), "/connections", &list); len(list.Items) != 1 || len(list.Warnings) != 1 {
		t.Errorf("without node-2: %+v, want what node-1 says, and a warning", list)
	}
}

// TestRoutes has a canary, of which two agents have different states.
func TestRoutes(t *testing.T) {
	web, old, canary := workload("web", "node-1"), workload("db", "node-2"), workload("db-v2", "node-2")
	one, two := startNode(t, "node-1", web), startNode(t, "node-2", old, canary)
	service := func(w *mesh.Workload) *mesh.Service {
		return &mesh.Service{Namespace: "shop", Name: w.OwnerName, Ports: []mesh.ServicePort{{Port: 80, Endpoints: []mesh.Endpoint{{
			Addr: netip.MustParseAddrPort("10.0.0.1:80"), WorkloadUID: w.UID, Ready: true,
		}}}}}
	}
	split := func(weight uint32) *mesh.Route {
		return &mesh.Route{
			Kind: "HTTPRoute", Namespace: "shop", Name: "canary", Parent: mesh.ServicePortRef{Namespace: "shop", Name: "db"},
			Rules: []mesh.RouteRule{{Backends: []mesh.RouteBackend{
				{Service: mesh.ServicePortRef{Namespace: "shop", Name: "db", Port: 80}, Weight: 100 - weight},
				{Service: mesh.ServicePortRef{Namespace: "shop", Name: "db-v2", Port: 80}, Weight: weight},
			}}},
		}
	}
	dump := func(version uint64, weight uint32) *state.Dump {
		return &state.Dump{Upstream: version, Workloads: []*mesh.Workload{web, old, canary}, Services: []*mesh.Service{service(old), service(canary)}, Routes: []*mesh.Route{split(weight)}}
	}
	one.dump.Store(dump(7, 30))
	two.dump.Store(dump(6, 10))
	for range 3 {
		call(one, two, web, old, 200, split(30))
	}
	call(one, two, web, canary, 500, split(30))
	var list tapv1alpha1.RouteList
	code := get(t, api(one, two), "/namespaces/shop/routes", &list)
	var got []string
	for _, r := range list.Items {
		for _, rule := range r.Rules {
			for _, b := range rule.Backends {
				got = append(got, fmt.Sprintf("%s/%s %s %d: %d of %d", r.Kind, r.Name, b.Name, b.Weight, b.Total.Success, b.Total.Requests))
			}
		}
	}
	want := []string{"HTTPRoute/canary db 70: 3 of 3", "HTTPRoute/canary db-v2 30: 0 of 1"}
	if diff := cmp.Diff(want, got); diff != "" || code != http.StatusOK || len(list.Warnings) != 0 {
		t.Errorf("%d %q (-want +got):\n%s", code, list.Warnings, diff)
	}
	one.dump.Store(nil)
	list = tapv1alpha1.RouteList{}
	if get(t, api(one, two), "/routes", &list); len(list.Warnings) != 1 || !strings.HasPrefix(list.Warnings[0], "node-1: its routes are not known") {
		t.Errorf("a dump without a state: warnings %q, want one", list.Warnings)
	}
}

func TestNodes(t *testing.T) {
	one, two := startNode(t, "node-1"), startNode(t, "node-2")
	two.stop()
	var list tapv1alpha1.NodeList
	get(t, api(one, two), "/nodes", &list)
	if len(list.Items) != 2 || !strings.Contains(string(list.Items[0].Status), `"node":"node-1"`) || list.Items[0].Error != "" || list.Items[1].Error == "" || list.Items[1].Metadata.Name != "node-2" {
		t.Errorf("nodes: %+v, want the status of node-1 and an error of node-2", list.Items)
	}
	var status struct{ Node string }
	if code := get(t, api(one, two), "/nodes/node-1/status", &status); code != http.StatusOK || status.Node != "node-1" {
		t.Errorf("status of node-1: %d %+v", code, status)
	}
}

// TestTap reads the merged stream as a browser does: lines of JSON, at once.
func TestTap(t *testing.T) {
	web, db := workload("web", "node-1"), workload("db", "node-2")
	one, two := startNode(t, "node-1", web), startNode(t, "node-2", db)
	server := httptest.NewServer(api(one, two).Handler())
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/watch/namespaces/shop/tap?view=both", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if kind := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || kind != tapv1alpha1.MediaJSON {
		t.Fatalf("%s %q, want 200 and %q", response.Status, kind, tapv1alpha1.MediaJSON)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(response.Body); in.Scan(); {
			lines <- in.Text()
		}
	}()
	// The header is there before the agents have answered: emit until the events come.
	seen := map[string]bool{}
	until := func(what string, cond func() bool) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		again := time.NewTicker(20 * time.Millisecond)
		defer again.Stop()
		for !cond() {
			select {
			case line := <-lines:
				for _, word := range []string{`"INBOUND"`, `"OUTBOUND"`, `"warning":"node-2: its agent does not answer`} {
					seen[word] = seen[word] || strings.Contains(line, word)
				}
			case <-again.C:
				call(one, two, web, db, 200, nil)
			case <-deadline:
				t.Fatalf("not within 20 s: %s; seen %v", what, seen)
			}
		}
	}
	until("events of both agents", func() bool { return seen[`"INBOUND"`] && seen[`"OUTBOUND"`] })
	two.stop()
	until("a warning of node-2", func() bool { return seen[`"warning":"node-2: its agent does not answer`] })

	for path, want := range map[string]int{"/watch/tap?methode=GET": 400, "/watch/namespaces/shop/cows/x/tap": 400, "/watch/tap?labelSelector=a,,": 400} {
		var status struct{ Kind string }
		if code := get(t, api(one, two), path, &status); code != want || status.Kind != "Status" {
			t.Errorf("%s: %d %+v, want a Status with %d", path, code, status, want)
		}
	}
}

// TestCheckTarget: a tap of what no agent knows is refused, because it would show nothing.
func TestCheckTarget(t *testing.T) {
	web, db := workload("web", "node-1"), workload("db", "node-2")
	one, two := startNode(t, "node-1", web), startNode(t, "node-2", db)
	one.dump.Store(&state.Dump{Workloads: []*mesh.Workload{web}})
	two.dump.Store(&state.Dump{Workloads: []*mesh.Workload{db}})
	all := api(one, two)
	for _, c := range []struct {
		target, namespace, to, want string
	}{
		{"", "", "", ""},
		{"deploy/web", "shop", "", ""},
		{"deploy/web", "", "deploy/db", ""},
		{"deploy", "shop", "", ""},
		{"svc/nope", "shop", "", ""},
		{"ns/nope", "", "", ""},
		{"deploy/nope", "shop", "", "knows a pod of deployment/nope in namespace shop"},
		{"deploy/web", "other", "", "knows a pod of deployment/web in namespace other"},
		{"deploy/web", "shop", "pod/nope", "knows a pod of pod/nope"},
		{"nokind/web", "shop", "", "no kind"},
	} {
		err := all.CheckTarget(t.Context(), &agentv1.TapRequest{Target: c.target, Namespace: c.namespace, To: c.to})
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v", c, err)
		}
		var unknown *UnknownError
		if got, want := errors.As(err, &unknown), strings.Contains(c.want, "knows a pod"); got != want {
			t.Errorf("%+v: %v is an UnknownError: %v, want %v", c, err, got, want)
		}
	}
	two.stop()
	if err := all.CheckTarget(t.Context(), &agentv1.TapRequest{Target: "deploy/nope"}); err != nil {
		t.Errorf("with an agent that is away: %v, want no judgement", err)
	}
}

// TestConnectionsOfAnotherNode: the connections of a node whose agent was not asked are not none.
func TestConnectionsOfAnotherNode(t *testing.T) {
	one := startNode(t, "node-1", workload("web", "node-1"))
	for node, want := range map[string]string{"": "", "node-1": "", "node-2": "only agents of node-1 were asked"} {
		_, err := api(one).Connections(t.Context(), tapv1alpha1.ConnectionsQuery{Node: node})
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("node %q: got %v, want %q", node, err, want)
		}
	}
}
