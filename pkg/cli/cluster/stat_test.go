package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// withCalls is a cluster of two nodes: web of node a (namespace shop) calls db of node b
// (namespace data), and a quarter of the calls fails.
func withCalls(t *testing.T) *world {
	w, agents := newWorld(t, "a", "b")
	web, db := w.workloads[0], agents[1].Workload("data", "db-1", "db")
	w.workloads = append(w.workloads, db)
	for i := range 40 {
		e := tap.Event{
			Kind: tap.ResponseEnd, TLS: tap.TLSTrue, Protocol: "http1", Status: 200, Latency: 5 * time.Millisecond, Duration: 6 * time.Millisecond,
			Source: tap.Peer{Workload: web}, Destination: tap.Peer{Workload: db},
		}
		if i%4 == 0 {
			e.Status = 500
		}
		in := e
		in.Direction, in.Latency = mesh.Inbound, 3*time.Millisecond
		e.Service = &mesh.Service{Namespace: "data", Name: "db"}
		agents[0].Emit(e)
		agents[1].Emit(in)
	}
	w.agents = agents
	return w
}

// withoutRates are the lines of a table without the rates, which depend on the time.
func withoutRates(text string) (lines []string) {
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		var kept []string
		for _, field := range strings.Fields(line) {
			if !strings.HasSuffix(field, "rps") && field != "RPS" {
				kept = append(kept, field)
			}
		}
		lines = append(lines, strings.Join(kept, " "))
	}
	return lines
}

func TestStat(t *testing.T) {
	w := withCalls(t)
	const (
		head    = "NAME MESHED SUCCESS LATENCY_P50 LATENCY_P95 LATENCY_P99 TCP_CONN"
		podHead = "NAME STATUS MESHED SUCCESS LATENCY_P50 LATENCY_P95 LATENCY_P99 TCP_CONN"
	)
	for args, want := range map[string][]string{
		"stat deploy":         {head, "web 2/2 - - - - - -"}, // of the kubeconfig's namespace
		"stat deploy -n data": {head, "db 1/1 75.00% 3ms 3ms 3ms -"},
		"stat deploy -A":      {"NAMESPACE " + head, "data db 1/1 75.00% 3ms 3ms 3ms -", "shop web 2/2 - - - - - -"},
		"stat pod --to deploy/db --to-namespace data":              {podHead, "web-a Running 1/1 75.00% 5ms 5ms 5ms -"},
		"stat deploy -n data --from ns/shop":                       {head, "db 1/1 75.00% 5ms 5ms 5ms -"},
		"stat svc -n data":                                         {head, "db - 75.00% 5ms 5ms 5ms -"},
		"stat pod -l colour=green":                                 {podHead, "web-a Running 1/1 - - - - - -"},
		"stat pod -l colour=green --to svc/db --to-namespace data": {podHead, "web-a Running 1/1 75.00% 5ms 5ms 5ms -"},
		"stat all -l colour=green -t 10m":                          {head, "deploy/web 2/2 - - - - - -", "", podHead, "po/web-a Running 1/1 - - - - - -"},
		"stat deploy -l colour":                                    {head, "web 2/2 - - - - - -"}, // as one of its pods
		"stat ns":                                                  {head, "data 1/1 75.00% 3ms 3ms 3ms -", "shop 2/2 - - - - - -"},
		"edges deploy":                                             {"SRC DST SRC_NS DST_NS SECURED", "web db shop data √"},
		"edges pod -n data -o wide":                                {"SRC DST SRC_NS DST_NS CLIENT_ID SERVER_ID SECURED DENIED AUDITED", "web-a db-1 shop data web.shop db.data √ 0 0"},
	} {
		r := w.run(t.Context(), "root", strings.Fields(args)...)
		if diff := cmp.Diff(want, withoutRates(r.out)); diff != "" || r.code != 0 || r.err != "" {
			t.Errorf("underlane %s: %d %q (-want +got):\n%s", args, r.code, r.err, diff)
		}
	}
}

// TestStatNeedsOneNamespaceOnly: the right in a namespace is enough for what is asked about it.
func TestStatNeedsOneNamespaceOnly(t *testing.T) {
	w := withCalls(t)
	w.kube.Allow = func(review authorizationv1.SubjectAccessReviewSpec) bool {
		a := review.ResourceAttributes
		return a.Resource == "figures" && a.Verb == "list" && a.Namespace == "data"
	}
	for _, args := range []string{"stat deploy/db -n data", "stat ns/data", "edges deploy -n data"} {
		if r := w.run(t.Context(), "ann", strings.Fields(args)...); r.code != 0 || !strings.Contains(r.out, "d") {
			t.Errorf("underlane %s: %+v", args, r)
		}
	}
	for _, args := range []string{"stat deploy -n shop", "stat deploy -A", "stat ns", "edges deploy -A"} {
		if r := w.run(t.Context(), "ann", strings.Fields(args)...); r.code == 0 || !strings.Contains(r.err, "underlane-tap-admin") || r.out != "" {
			t.Errorf("underlane %s: %+v, want a refusal that says what to ask for", args, r)
		}
	}
}

func TestStatWide(t *testing.T) {
	w := withCalls(t)
	w.agents[1].Uses.Pods = []*agentv1.PodResource{{Uid: "data/db-1", Containers: &agentv1.ContainerUsage{Known: 7, Cpu: 0.25, Memory: 1 << 20, MemoryLimit: 1 << 30}}}
	r := w.run(t.Context(), "root", "stat", "deploy", "-n", "data", "-o", "wide")
	if lines := withoutRates(r.out); len(lines) != 2 || !strings.HasSuffix(lines[0], "CPU CPU_LIMIT MEMORY MEMORY_LIMIT DENIED AUDITED") || !strings.HasSuffix(lines[1], " 250m - 1Mi 1024Mi 0 0") || r.err != "" {
		t.Errorf("%+v, want what db uses", r)
	}
	// The right to see figures is enough for the rest of the row.
	w.kube.Allow = func(review authorizationv1.SubjectAccessReviewSpec) bool {
		return review.ResourceAttributes.Resource == "figures"
	}
	r = w.run(t.Context(), "ann", "stat", "deploy", "-n", "data", "-o", "wide")
	if lines := withoutRates(r.out); r.code != 0 || len(lines) != 2 || !strings.HasSuffix(lines[1], " - - - - 0 0") || !strings.Contains(r.err, "underlane-tap-admin") {
		t.Errorf("%+v, want the figures, and what right is missing", r)
	}
}

func TestConnections(t *testing.T) {
	w := withCalls(t)
	open := &agentv1.OpenConnection{
		Event: &agentv1.TapEvent{
			Kind: agentv1.TapEvent_CONN_OPEN, Inbound: true, Source: &agentv1.Peer{Address: "192.0.2.1:999"},
			Destination: &agentv1.Peer{Address: "10.0.0.1:80", Workload: &agentv1.Workload{Namespace: "data", Name: "db-1"}}, Tls: tap.TLSNoIdentity, Protocol: "tcp",
		},
		Client: &agentv1.OpenConnection_Ends{Local: "10.0.0.1:80", Remote: "192.0.2.1:999"},
	}
	w.agents[1].Open.Connections = []*agentv1.OpenConnection{open}
	w.kube.Allow = func(review authorizationv1.SubjectAccessReviewSpec) bool {
		a := review.ResourceAttributes
		return a.Resource == "connections" && a.Verb == "list" && a.Namespace == "data"
	}
	if r := w.run(t.Context(), "ann", "connections", "deploy/db", "-n", "data"); r.code != 0 || !strings.Contains(r.out, "data/db-1") || r.err != "" {
		t.Errorf("%+v, want the connection of db", r)
	}
	if r := w.run(t.Context(), "ann", "connections", "-A"); r.code == 0 || !strings.Contains(r.err, "underlane-tap-admin") {
		t.Errorf("%+v, want a refusal that says what to ask for", r)
	}
}

func TestStatWithLabels(t *testing.T) {
	w := withCalls(t)
	for args, want := range map[string]string{
		"stat deploy -l colour=red":     "No traffic found.",
		"stat deploy -n data -l a=b":    "No traffic found.",
		"stat svc -n data -l a=b":       "its own selector",
		"stat deploy -l colour==green=": "labelSelector",
	} {
		if r := w.run(t.Context(), "root", strings.Fields(args)...); r.out != "" || !strings.Contains(r.err, want) {
			t.Errorf("underlane %s: %+v, want %q", args, r, want)
		}
	}
}

func TestStatTellsWhoIsMissing(t *testing.T) {
	w := withCalls(t)
	w.nodes[1].Address = "127.0.0.1:1"
	r := w.run(t.Context(), "root", "stat", "deploy", "-n", "data")
	want := []string{"NAME MESHED SUCCESS LATENCY_P50 LATENCY_P95 LATENCY_P99 TCP_CONN", "db (part) 1/1 75.00% 5ms 5ms 5ms -"}
	if diff := cmp.Diff(want, withoutRates(r.out)); diff != "" || r.code != 0 || !strings.HasPrefix(r.err, "‼ b: ") {
		t.Errorf("%d %q, want a warning about b (-want +got):\n%s", r.code, r.err, diff)
	}
}

// TestRoutes has a canary that gets a tenth of the requests and fails, with retries, and
// requests that match no rule.
func TestRoutes(t *testing.T) {
	w, agents := newWorld(t, "a", "b")
	web := w.workloads[0]
	db, canary := agents[1].Workload("data", "db-1", "db"), agents[1].Workload("data", "canary-1", "canary")
	service := func(name string, w *mesh.Workload) *mesh.Service {
		return &mesh.Service{Namespace: "data", Name: name, Ports: []mesh.ServicePort{{Port: 80, Endpoints: []mesh.Endpoint{{Workload: w}}}}}
	}
	w.services = []*mesh.Service{service("db", db), service("db-canary", canary)}
	backend := func(name string, weight uint32) mesh.RouteBackend {
		return mesh.RouteBackend{Service: mesh.ServicePortRef{Namespace: "data", Name: name, Port: 80}, Weight: weight}
	}
	route := &mesh.Route{
		Kind: "HTTPRoute", Namespace: "data", Name: "split", Parent: mesh.ServicePortRef{Namespace: "data", Name: "db"},
		Rules: []mesh.RouteRule{
			{Name: "read", Matches: []mesh.RouteMatch{{Method: "GET"}}, Backends: []mesh.RouteBackend{backend("db", 9), backend("db-canary", 1)}, Retry: &mesh.RouteRetry{Attempts: 2, Codes: []uint16{503}}},
			{Matches: []mesh.RouteMatch{{Path: mesh.PathMatch{Value: "/admin"}}}},
		},
	}
	w.routes = []*mesh.Route{route}
	w.workloads = append(w.workloads, db, canary)
	emit := func(n int, to *mesh.Workload, r *mesh.Route, rule string, status, retries int) {
		for range n {
			agents[0].Emit(tap.Event{
				Kind: tap.ResponseEnd, TLS: tap.TLSTrue, Protocol: "http1", Status: status, Latency: 5 * time.Millisecond, Retries: retries,
				Source: tap.Peer{Workload: web}, Destination: tap.Peer{Workload: to}, Service: w.services[0], Route: r, Rule: rule,
			})
		}
	}
	emit(90, db, route, "read", 200, 0)
	emit(5, canary, route, "read", 200, 2)
	emit(5, canary, route, "read", 503, 2)
	emit(4, db, nil, "", 200, 0)
	agents[0].Emit(tap.Event{ // to a Service that has no route
		Kind: tap.ResponseEnd, TLS: tap.TLSTrue, Protocol: "http1", Status: 200, Latency: 5 * time.Millisecond,
		Source: tap.Peer{Workload: web}, Destination: tap.Peer{Workload: canary}, Service: w.services[1],
	})

	for args, want := range map[string][]string{
		"routes -n data": {
			"ROUTE SERVICE SUCCESS LATENCY_P50 LATENCY_P95 LATENCY_P99",
			"split/read db 95.00% 5ms 5ms 5ms", "split/1 db - - - - -", "[DEFAULT] db 100.00% 5ms 5ms 5ms",
			"[DEFAULT] db-canary 100.00% 5ms 5ms 5ms",
		},
		"routes svc/db-canary -n data": {
			"ROUTE SERVICE SUCCESS LATENCY_P50 LATENCY_P95 LATENCY_P99",
			"[DEFAULT] db-canary 100.00% 5ms 5ms 5ms",
		},
		"routes svc/db -A -o wide": {
			"ROUTE SERVICE NAMESPACE EFFECTIVE_SUCCESS EFFECTIVE_RPS ACTUAL_SUCCESS ACTUAL_RPS LATENCY_P50 LATENCY_P95 LATENCY_P99",
			"split/read db data 95.00% 79.17% 5ms 5ms 5ms", "split/1 db data - - - - - - -", "[DEFAULT] db data 100.00% 100.00% 5ms 5ms 5ms",
		},
		"routes deploy/web --to svc/db --to-namespace data": {
			"ROUTE SERVICE SUCCESS LATENCY_P50 LATENCY_P95 LATENCY_P99",
			"split/read db 95.00% 5ms 5ms 5ms", "split/1 db - - - - -", "[DEFAULT] db 100.00% 5ms 5ms 5ms",
		},
		"routes deploy/db -n data": { // only those by which it is called
			"ROUTE SERVICE SUCCESS LATENCY_P50 LATENCY_P95 LATENCY_P99",
			"split/read db 100.00% 5ms 5ms 5ms", "[DEFAULT] db 100.00% 5ms 5ms 5ms",
		},
		"routes -n data --from deploy/other": {
			"ROUTE SERVICE SUCCESS LATENCY_P50 LATENCY_P95 LATENCY_P99",
			"split/read db - - - - -", "split/1 db - - - - -", "[DEFAULT] db - - - - -",
		},
	} {
		r := w.run(t.Context(), "root", strings.Fields(args)...)
		if diff := cmp.Diff(want, withoutRates(r.out)); diff != "" || r.code != 0 || r.err != "" {
			t.Errorf("underlane %s: %d %q (-want +got):\n%s", args, r.code, r.err, diff)
		}
	}
	if r := w.run(t.Context(), "root", "routes"); r.out != "" || !strings.Contains(r.err, "No routes found.") || r.code != 0 {
		t.Errorf("a namespace without routes and requests: %+v", r)
	}
}

// TestLongTimes: without a history nothing is shown of a time that agents do not remember.
func TestLongTimes(t *testing.T) {
	w := withCalls(t)
	for args, want := range map[string]string{
		"stat deploy -n data -t 6h":             "controller.history.enabled",
		"edges deploy -A -t 16m":                "controller.history.enabled",
		"stat pod -A -t 6h":                     "by workload, not by pod",
		"stat deploy -A --from pod/web-a -t 6h": "by workload, not by pod",
		"routes -n data -t 6h":                  "has no routes",
	} {
		if got := w.run(t.Context(), "root", strings.Fields(args)...); got.code == 0 || !strings.Contains(got.err, want) {
			t.Errorf("%s: %+v, want an error with %q", args, got, want)
		}
	}
}
