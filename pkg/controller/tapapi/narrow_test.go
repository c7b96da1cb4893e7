package tapapi

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"
	authorizationv1 "k8s.io/api/authorization/v1"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/controller/fanin"
	"github.com/underlane/underlane/pkg/mesh"
)

// TestNodesOfOthers: a user with rights in one namespace learns neither the names, nor the
// addresses, nor the number of the nodes without pods of that namespace, whether their
// agents answer or not. Who may see all namespaces learns them.
func TestNodesOfOthers(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.History = History{Bytes: 1 << 20} })
	a, b := w.agent("node-own"), w.agent("node-secret")
	db := b.Workload("data", "db-1", "db")
	web := w.workloads[0]
	// A node whose agent does not answer: nothing listens at its address.
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := dead.Addr().String()
	_ = dead.Close()
	w.mu.Lock()
	w.nodes = append(w.nodes, fanin.Node{Name: "dead-secret", Address: address})
	w.workloads = []*mesh.Workload{web, db, {Namespace: "data", Name: "db-2", OwnerKind: "deployment", OwnerName: "db", Node: "dead-secret", Meshed: true}}
	w.services = []*mesh.Service{{Namespace: "shop", Name: "web", Ports: []mesh.ServicePort{{Port: 80}}}}
	w.mu.Unlock()
	pastCalls(5*time.Minute, web, db, a, b)
	for deadline := time.Now().Add(30 * time.Second); w.server.history.Store.Stats().Since.IsZero(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the history is empty")
		}
	}
	w.kube.Allow = func(review authorizationv1.SubjectAccessReviewSpec) bool {
		return review.User == "root" || review.ResourceAttributes.Namespace == "shop"
	}
	type answer struct {
		Nodes    tapv1alpha1.Nodes
		Warnings []string
	}
	ask := func(user, path string) (answer, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		r := w.get(ctx, user, path, "application/json")
		var text string
		var out answer
		if strings.Contains(path, "/watch/") {
			var first json.RawMessage
			if err := json.NewDecoder(r.Body).Decode(&first); err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			text = string(first)
		} else {
			data, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			text = string(data)
		}
		if r.StatusCode != http.StatusOK || json.Unmarshal([]byte(text), &out) != nil {
			t.Fatalf("%s: %d %s, want 200 and JSON", path, r.StatusCode, text)
		}
		return out, text
	}
	for name, path := range map[string]func(namespace string) string{
		"figures":              tapv1alpha1.FiguresPath,
		"figures by pod":       func(ns string) string { return tapv1alpha1.FiguresPath(ns) + "?by=pod" },
		"figures by namespace": func(ns string) string { return tapv1alpha1.FiguresPath(ns) + "?by=namespace" },
		"history":              func(ns string) string { return tapv1alpha1.FiguresPath(ns) + "?window=1h&step=60" },
		"routes":               tapv1alpha1.RoutesPath,
		"resources":            tapv1alpha1.ResourcesPath,
		"connections":          tapv1alpha1.ConnectionsPath,
		"watch":                tapv1alpha1.WatchFiguresPath,
	} {
		got, text := ask("ann", path("shop"))
		past := name == "history" // all agents are missing in a part of that hour
		if got.Nodes.Asked != 1 || got.Nodes.Answered != 1 && !past {
			t.Errorf("%s: %+v, want 1 of 1: those with pods of the namespace", name, got.Nodes)
		}
		if strings.Contains(text, "secret") || strings.Contains(text, address) {
			t.Errorf("%s: %s names a node that the user may not know of", name, text)
		}
		if name != "resources" && !past && strings.Join(got.Warnings, "\n") != unnamedSilent {
			t.Errorf("%s: warnings %q, want one without a name", name, got.Warnings)
		}
		if got, text = ask("root", path("")); got.Nodes.Asked != 3 || got.Nodes.Answered != 2 && !past || !strings.Contains(text, "dead-secret") {
			t.Errorf("%s of all: %+v %s, want 2 of 3 and the silent one", name, got.Nodes, text)
		}
	}
	// So it is with a tap: of a Service, whose clients are on all nodes.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	in := bufio.NewReader(w.get(ctx, "ann", tapv1alpha1.TapPath("shop", "services", "web"), tapv1alpha1.MediaProtobuf).Body)
	e := request(b)
	e.Source.Workload, e.Destination.Workload, e.Service = db, web, w.services[0]
	b.Emit(e)
	for heard, warned := false, false; !heard || !warned; {
		var batch agentv1.TapEvents
		if err := protodelim.UnmarshalFrom(in, &batch); err != nil {
			t.Fatal(err)
		}
		for _, text := range batch.GetWarnings() {
			warned = true
			if strings.Contains(text, "secret") || strings.Contains(text, address) {
				t.Errorf("tap warns of a node that the user may not know of: %s", text)
			}
		}
		for _, e := range batch.GetEvents() {
			heard = true
			if from, to := e.GetSource().GetWorkload(), e.GetDestination().GetWorkload(); from.GetName() != "db-1" || from.GetNode() != "" || to.GetNode() != "node-own" {
				t.Errorf("tap shows %v to %v, want db-1 without its node, and node-own", from, to)
			}
		}
	}
	// What is known of the own node is still told.
	a.Stop()
	if got, text := ask("ann", tapv1alpha1.FiguresPath("shop")); got.Nodes != (tapv1alpha1.Nodes{Asked: 1}) || !strings.Contains(text, "node-own") || strings.Contains(text, "secret") {
		t.Errorf("%+v %s, want 0 of 1 and the name of the own node", got.Nodes, text)
	}
}
