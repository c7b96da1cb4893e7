package table

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/figures/wire"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tap/filter"
)

var epoch = time.Unix(1_800_000_000, 0).UTC()

// shop is a mesh of two nodes, whose agents have counted one minute:
//
//	web (node-1, node-2) -> api (node-2) by the service api, 60 requests from each pod, 12 of the second fail
//	web-1 -> db (node-1), of one node, 30 requests
//	web-1 -> legacy (no mesh, node-2), a TCP connection that is open
//	a client outside -> web-1, 10 requests
//	web-1 -> the service empty, which has no endpoints, 5 requests
type shop struct {
	stores map[string]*figures.Store
	pods   []*mesh.Workload
	now    time.Time
}

func pod(namespace, deploy, node string, n int, meshed bool) *mesh.Workload {
	return &mesh.Workload{
		Name: fmt.Sprintf("%s-%d", deploy, n), Namespace: namespace, Node: node, OwnerKind: "deployment", OwnerName: deploy, Meshed: meshed, Ready: true,
		Identity: mesh.Identity{TrustDomain: "d", Namespace: namespace, ServiceAccount: deploy},
	}
}

func newShop() *shop {
	s := &shop{stores: map[string]*figures.Store{}, now: epoch.Add(time.Minute)}
	for _, node := range []string{"node-1", "node-2"} {
		s.stores[node] = figures.NewStore(figures.Options{}, epoch)
	}
	web1, web2 := pod("shop", "web", "node-1", 1, true), pod("shop", "web", "node-2", 2, true)
	api, db, legacy := pod("back", "api", "node-2", 1, true), pod("back", "db", "node-1", 1, true), pod("back", "legacy", "node-2", 1, false)
	s.pods = []*mesh.Workload{web1, web2, api, db, legacy, pod("shop", "idle", "node-1", 1, true), pod("shop", "old", "node-1", 1, false)}
	svc := &mesh.Service{Namespace: "back", Name: "api"}
	s.call(60, 0, 4*time.Millisecond, web1, api, svc)
	s.call(60, 12, 4*time.Millisecond, web2, api, svc)
	s.call(30, 0, time.Millisecond, web1, db, &mesh.Service{Namespace: "back", Name: "db"})
	s.emit("node-1", tap.Event{Kind: tap.ConnOpen, TLS: tap.TLSNoIdentity, Protocol: "tcp"}, web1, legacy)
	s.call(5, 5, time.Microsecond, web1, nil, &mesh.Service{Namespace: "back", Name: "empty"})
	for range 10 {
		s.emit("node-1", tap.Event{Kind: tap.ResponseEnd, Direction: mesh.Inbound, TLS: tap.TLSNoIdentity, Protocol: "http1", Status: 200, Latency: time.Second}, nil, web1)
	}
	return s
}

func (s *shop) emit(node string, e tap.Event, from, to *mesh.Workload) {
	e.Source.Workload, e.Destination.Workload = from, to
	s.stores[node].Emit(&e)
}

// call emits what both agents report of calls. The server's is a millisecond shorter.
func (s *shop) call(n, failing int, latency time.Duration, from, to *mesh.Workload, svc *mesh.Service) {
	for i := range n {
		e := tap.Event{Kind: tap.ResponseEnd, TLS: tap.TLSTrue, Protocol: "http2", Status: 200, Latency: latency, Duration: latency, Service: svc}
		if i < failing {
			e.Status = 503
		}
		switch {
		case to == nil:
			e.TLS, e.Reason = tap.TLSNoIdentity, mesh.ReasonNoEndpoints
			e.Destination.Addr = netip.MustParseAddrPort("10.0.0.1:80")
		case from.Node == to.Node:
			e.TLS = tap.TLSSameNode
		default:
			in := e
			in.Direction, in.Service, in.Latency = mesh.Inbound, nil, latency-time.Millisecond
			s.emit(to.Node, in, from, to)
		}
		s.emit(from.Node, e, from, to)
	}
}

// ask asks the agents of these nodes, over the wire, and merges what they answer.
func (s *shop) ask(t *testing.T, q tapv1alpha1.FiguresQuery, silent ...string) *tapv1alpha1.Figures {
	t.Helper()
	q, err := tapv1alpha1.ParseFigures(q.Values())
	if err != nil {
		t.Fatal(err)
	}
	r, err := Request(&q, s.now)
	if err != nil {
		t.Fatal(err)
	}
	a := &Answers{Asked: len(s.stores), Silent: silent}
	for node, store := range s.stores {
		if len(silent) > 0 && silent[0] == node {
			continue
		}
		requests := []*agentv1.FiguresRequest{r}
		if len(silent) > 0 {
			requests = append(requests, InsteadOf(r, silent))
		}
		for _, r := range requests {
			query, err := wire.Query(r, node, s.now)
			if err != nil {
				t.Fatal(err)
			}
			a.Results = append(a.Results, wire.FromProto(wire.ToProto(store.Query(query, s.now), node, 0, s.now)))
		}
	}
	known := &Known{Services: []figures.Service{{Namespace: "back", Name: "api"}, {Namespace: "back", Name: "unused"}}}
	for _, w := range s.pods {
		known.Pods = append(known.Pods, Pod{End: figures.EndOf(w), Ready: w.Ready})
	}
	return Merge(&q, a, known, s.now)
}

func (s *shop) stat(t *testing.T, q Stat, silent ...string) string {
	t.Helper()
	q.Window = time.Minute
	var out bytes.Buffer
	if err := WriteStat(&out, [][]*StatRow{q.Rows(s.ask(t, q.Query(), silent...))}, false, q.Namespace == ""); err != nil {
		t.Fatal(err)
	}
	return squeeze(out.String())
}

// squeeze joins runs of spaces, so that tests do not depend on the widths of columns.
func squeeze(text string) string {
	var lines []string
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

const podHead = "NAME STATUS MESHED SUCCESS RPS LATENCY_P50 LATENCY_P95 LATENCY_P99 TCP_CONN\n"

const head = "NAME MESHED SUCCESS RPS LATENCY_P50 LATENCY_P95 LATENCY_P99 TCP_CONN\n"

func TestStat(t *testing.T) {
	s := newShop()
	s.pods[1].Ready = false // web-2
	for name, tc := range map[string]struct {
		stat Stat
		want string
	}{
		"what deployments are sent, at their side": {Stat{Kind: "deployment", Namespace: "back"}, head +
			"api 1/1 90.00% 2.0rps 3ms 4ms 4ms -\n" +
			"db 1/1 100.00% 0.5rps 1ms 1ms 1ms -"},
		"rows without traffic": {Stat{Kind: "deployment", Namespace: "shop"}, head +
			"idle 1/1 - - - - - -\n" +
			"web 2/2 100.00% 0.2rps 981ms 981ms 981ms -"},
		"unmeshed ones, too": {Stat{Kind: "deployment", Namespace: "back", Unmeshed: true}, head +
			"api 1/1 90.00% 2.0rps 3ms 4ms 4ms -\n" +
			"db 1/1 100.00% 0.5rps 1ms 1ms 1ms -\n" +
			"legacy 0/1 - - - - - 1"},
		"one by name": {Stat{Kind: "deployment", Namespace: "back", Names: []string{"db"}}, head +
			"db 1/1 100.00% 0.5rps 1ms 1ms 1ms -"},
		"pods": {Stat{Kind: filter.KindPod, Namespace: "shop", Names: []string{"web-1", "web-2"}}, podHead +
			"web-1 Running 1/1 100.00% 0.2rps 981ms 981ms 981ms -\n" +
			"web-2 NotReady 1/1 - - - - - -"},
		"to: what they send, at their side": {Stat{Kind: "deployment", Namespace: "shop", To: "deploy/api", ToNamespace: "back"}, head +
			"web 2/2 90.00% 2.0rps 4ms 4ms 4ms -"},
		"to a service without endpoints": {Stat{Kind: filter.KindPod, Namespace: "shop", Names: []string{"web-1"}, To: "svc/empty", ToNamespace: "back"}, podHead +
			"web-1 Running 1/1 0.00% 0.1rps 0.00ms 0.00ms 0.00ms -"},
		"from: what is sent to them, at the clients' side": {Stat{Kind: "deployment", Namespace: "back", From: "pod/web-2", FromNamespace: "shop"}, head +
			"api 1/1 80.00% 1.0rps 4ms 4ms 4ms -"},
		"a service, to one of its pods": {Stat{Kind: filter.KindService, Namespace: "back", Names: []string{"api"}, To: "pod/api-1", ToNamespace: "back"}, head +
			"api - 90.00% 2.0rps 4ms 4ms 4ms -"},
		"services, to a pod": {Stat{Kind: filter.KindService, Namespace: "back", To: "pod/db-1", ToNamespace: "back"}, head +
			"db - 100.00% 0.5rps 1ms 1ms 1ms -"},
		"a service, to a pod of another one": {Stat{Kind: filter.KindService, Namespace: "back", Names: []string{"api"}, To: "pod/db-1", ToNamespace: "back"}, strings.TrimSpace(head)},
		"from: nothing is sent to it":        {Stat{Kind: "deployment", Namespace: "shop", From: "deploy/api", FromNamespace: "back"}, strings.TrimSpace(head)},
		"services": {Stat{Kind: filter.KindService, Namespace: "back"}, head +
			"api - 90.00% 2.0rps 4ms 4ms 4ms -\n" +
			"db - 100.00% 0.5rps 1ms 1ms 1ms -\n" +
			"empty - 0.00% 0.1rps 0.00ms 0.00ms 0.00ms -\n" +
			"unused - - - - - - -"},
		"namespaces": {Stat{Kind: filter.KindNamespace}, "NAMESPACE " + head +
			"back 2/3 89.03% 2.6rps 3ms 4ms 4ms 1\n" +
			"shop 3/4 100.00% 0.2rps 981ms 981ms 981ms -"},
		"all namespaces": {Stat{Kind: "deployment", Names: []string{"api", "web"}}, "NAMESPACE " + head +
			"back api 1/1 90.00% 2.0rps 3ms 4ms 4ms -\n" +
			"shop web 2/2 100.00% 0.2rps 981ms 981ms 981ms -"},
		"another kind": {Stat{Kind: "statefulset", Namespace: "shop"}, strings.TrimSpace(head)},
	} {
		if diff := cmp.Diff(tc.want, s.stat(t, tc.stat)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestSilentNode: where the agent of node-2 does not answer, that of node-1 tells its part.
func TestSilentNode(t *testing.T) {
	s := newShop()
	for name, tc := range map[string]struct {
		stat   Stat
		silent string
		want   string
	}{
		"the server's": {Stat{Kind: "deployment", Namespace: "back"}, "node-2", head +
			"api (part) 1/1 100.00% 1.0rps 4ms 4ms 4ms -\n" +
			"db 1/1 100.00% 0.5rps 1ms 1ms 1ms -"},
		"the client's": {Stat{Kind: "deployment", Namespace: "shop", Names: []string{"web"}, To: "deploy/api", ToNamespace: "back"}, "node-1", head +
			"web (part) 2/2 90.00% 2.0rps 3ms 4ms 4ms -"},
	} {
		if diff := cmp.Diff(tc.want, s.stat(t, tc.stat, tc.silent)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestStatJSON(t *testing.T) {
	s := newShop()
	q := Stat{Kind: "deployment", Namespace: "back", Window: time.Minute}
	var out bytes.Buffer
	if err := WriteStatJSON(&out, [][]*StatRow{q.Rows(s.ask(t, q.Query()))}); err != nil {
		t.Fatal(err)
	}
	var rows []map[string]any
	if err := json.Unmarshal(out.Bytes(), &rows); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{
		{
			"namespace": "back", "kind": "deployment", "name": "api", "meshed": "1/1", "success": 0.9, "rps": 2.0,
			"latency_ms_p50": 3.0, "latency_ms_p95": 4.0, "latency_ms_p99": 4.0,
			"latency_us_p50": 2953.0, "latency_us_p95": 3830.0, "latency_us_p99": 3830.0, "failures": map[string]any{"status": 12.0},
		},
		{
			"namespace": "back", "kind": "deployment", "name": "db", "meshed": "1/1", "success": 1.0, "rps": 0.5,
			"latency_ms_p50": 1.0, "latency_ms_p95": 1.0, "latency_ms_p99": 1.0,
			"latency_us_p50": 957.0, "latency_us_p95": 957.0, "latency_us_p99": 957.0,
		},
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Error("(-want +got):", diff)
	}
}

func TestEdges(t *testing.T) {
	s := newShop()
	write := func(q *Edges, wide bool) string {
		var out bytes.Buffer
		if err := WriteEdges(&out, q.Rows(s.ask(t, q.Query)), wide); err != nil {
			t.Fatal(err)
		}
		return squeeze(out.String())
	}
	want := `SRC DST SRC_NS DST_NS SECURED
external web - shop the client is outside the mesh
web api shop back √
web db shop back √
web legacy shop back the server is not in the mesh
web svc/empty shop back no endpoint was found`
	if diff := cmp.Diff(want, write(NewEdges("deployment", ""), false)); diff != "" {
		t.Error("(-want +got):", diff)
	}
	want = `SRC DST SRC_NS DST_NS CLIENT_ID SERVER_ID SECURED DENIED AUDITED
web-1 api-1 shop back web.shop api.back √ 0 0
web-1 db-1 shop back web.shop db.back √ 0 0
web-1 legacy-1 shop back - - the server is not in the mesh 0 0
web-1 svc/empty shop back - - no endpoint was found 0 0
web-2 api-1 shop back web.shop api.back √ 0 0`
	if diff := cmp.Diff(want, write(NewEdges(filter.KindPod, "back"), true)); diff != "" {
		t.Error("(-want +got):", diff)
	}
	want = `SRC DST SRC_NS DST_NS SECURED
external shop - - the client is outside the mesh
shop back - - √
shop back - - no endpoint was found
shop back - - the server is not in the mesh`
	if diff := cmp.Diff(want, write(NewEdges(filter.KindNamespace, ""), false)); diff != "" {
		t.Error("(-want +got):", diff)
	}
}

// TestEdgesOfOutage: where both ends are in the mesh, the reason is not that one is not, and
// an agent that was away, or is, is among the causes. Edges of namespaces have the same one.
func TestEdgesOfOutage(t *testing.T) {
	s := newShop()
	s.emit("node-2", tap.Event{Kind: tap.ConnOpen, Direction: mesh.Inbound, TLS: tap.TLSNoIdentity, Protocol: "tcp"}, s.pods[5], s.pods[1])
	for silent, want := range map[string]string{
		"":       carriesNot + passedBy,
		"node-1": carriesNot + "it does not answer now, or " + passedBy,
	} {
		for _, kind := range []filter.Kind{"deployment", filter.KindPod, filter.KindNamespace} {
			q := NewEdges(kind, "shop")
			q.Query.Side = tapv1alpha1.SideDestination
			var nodes []string
			if silent != "" {
				nodes = []string{silent}
			}
			var got []string
			for _, r := range q.Rows(s.ask(t, q.Query, nodes...)) {
				if strings.HasPrefix(r.Why, carriesNot) {
					got = append(got, r.Why)
				}
			}
			if diff := cmp.Diff([]string{want}, got); diff != "" {
				t.Errorf("edges %s, silent %q (-want +got):\n%s", kind, silent, diff)
			}
		}
	}
}

// TestEdgesOfFailures: a handshake that the client has given up has no identity, but it is
// not a connection in the clear.
func TestEdgesOfFailures(t *testing.T) {
	s := newShop()
	for _, to := range []*mesh.Workload{s.pods[2], s.pods[5]} { // the first has other connections, too
		s.emit(to.Node, tap.Event{
			Kind: tap.ConnClose, Direction: mesh.Inbound, TLS: tap.TLSNoIdentity, Protocol: "tcp", Reason: mesh.ReasonClientReset,
		}, s.pods[0], to)
	}
	q := NewEdges(filter.KindPod, "")
	var got []string
	for _, r := range q.Rows(s.ask(t, q.Query)) {
		if r.Source == "web-1" && (r.Destination == "api-1" || r.Destination == "idle-1") {
			got = append(got, fmt.Sprintf("%s %s %q", r.Destination, r.TLS, r.Why))
		}
	}
	want := []string{
		`api-1 true ""`, `api-1 no-identity "nothing passed: all connections failed"`,
		`idle-1 no-identity "nothing passed: all connections failed"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("(-want +got):", diff)
	}
}

// TestEdgesOfACluster: what is not secured on a cluster that is well says why. Kubelets probe
// pods past the agents, and clients start before the first endpoint is there.
func TestEdgesOfACluster(t *testing.T) {
	s := newShop()
	to := s.pods[5]
	probe := tap.Event{Origin: tap.FromKernel, Kind: tap.ConnOpen, Direction: mesh.Inbound, TLS: tap.TLSNotProxied, Protocol: "tcp"}
	s.emit(to.Node, probe, mesh.NodeItself(to.Node), to)
	s.call(3, 3, time.Microsecond, s.pods[3], nil, &mesh.Service{Namespace: "shop", Name: "empty"})
	for kind, want := range map[filter.Kind]string{
		"deployment":         "node/" + to.Node + " idle: no agent carries it: it is of the node itself, such as the kubelet's probes",
		filter.KindPod:       "node/" + to.Node + " " + to.Name + ": no agent carries it: it is of the node itself, such as the kubelet's probes",
		filter.KindNamespace: "back shop: no endpoint was found",
	} {
		q := NewEdges(kind, "")
		var got []string
		for _, r := range q.Rows(s.ask(t, q.Query)) {
			got = append(got, fmt.Sprintf("%s %s: %s", r.Source, r.Destination, r.Why))
		}
		if !slices.Contains(got, want) {
			t.Errorf("edges of %s: got %q, want one %q", kind, got, want)
		}
	}
}

// TestPoints: points cover the window, and the total is their sum.
func TestPoints(t *testing.T) {
	s := newShop()
	f := s.ask(t, tapv1alpha1.FiguresQuery{Namespace: "shop", Step: 10 * time.Second, Window: time.Minute})
	for _, e := range f.Edges {
		var sum uint64
		for _, p := range e.Points {
			if p != nil {
				sum += p.Requests
			}
		}
		if len(e.Points) != 6 || sum != e.Total.Requests {
			t.Errorf("%d points with %d requests, want 6 with %d", len(e.Points), sum, e.Total.Requests)
		}
	}
	for _, r := range f.Resources {
		if r.Name == "web" && (!slices.Equal(r.Nodes, []string{"node-1", "node-2"}) || r.Pods != 2 || r.Ready != 2 || r.Identity != "spiffe://d/ns/shop/sa/web") {
			t.Errorf("%+v, want 2 ready pods on both nodes", r)
		}
	}
	if f.StepSeconds != 10 || !f.Start.Equal(epoch) || f.Nodes != (tapv1alpha1.Nodes{Asked: 2, Answered: 2}) {
		t.Errorf("steps of %d s from %v, %+v, want 10 from %v, 2 of 2", f.StepSeconds, f.Start, f.Nodes, epoch)
	}
}

// TestHostileNames writes names that would control a terminal.
func TestHostileNames(t *testing.T) {
	var out bytes.Buffer
	if err := WriteStat(&out, [][]*StatRow{{{Kind: "pod", Name: "a\x1b[2J", Namespace: "b\nc"}}}, true, true); err != nil {
		t.Fatal(err)
	}
	if err := WriteEdges(&out, []EdgeRow{{Source: "\u202eevil", Client: "x\r"}}, true); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); strings.ContainsAny(text, "\x1b\r\u202e") || strings.Count(text, "\n") != 4 {
		t.Errorf("%q has control characters, or more than 4 lines", text)
	}
}

// TestRatesOfRestart: what an agent has counted since its start is divided by the time since
// then, and what the other one has counted by the whole.
func TestRatesOfRestart(t *testing.T) {
	s := newShop()
	s.now = epoch.Add(15 * time.Minute)
	s.stores["node-2"] = figures.NewStore(figures.Options{}, s.now.Add(-14*time.Second))
	web2, api := s.pods[1], s.pods[2]
	svc := &mesh.Service{Namespace: "back", Name: "api"}
	s.call(28, 0, time.Millisecond, web2, api, svc) // node-2: 2 a second, of 14 s
	for _, c := range []struct {
		window time.Duration
		want   float64 // of the Service: what both clients have sent
	}{{time.Minute, 2}, {15 * time.Minute, 2 + 60.0/900}} {
		for _, q := range []Stat{{Kind: filter.KindService}, {Kind: "deployment", To: "svc/api", ToNamespace: "back"}} {
			q.Window = c.window
			rows := q.Rows(s.ask(t, q.Query()))
			i := slices.IndexFunc(rows, func(r *StatRow) bool { return r.Name == "api" || r.Name == "web" })
			if i < 0 {
				t.Fatalf("%+v: no row", q)
			}
			if got := rows[i].Rate(rows[i].Sums.Requests()); math.Abs(got-c.want) > 0.01 {
				t.Errorf("%s in %v: %.3f requests a second, want %.3f", q.Kind, c.window, got, c.want)
			}
		}
	}
}

// TestRatesOfHistory: rates are of the time that is known.
func TestRatesOfHistory(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	f := &tapv1alpha1.Figures{
		Start: now, End: now.Add(time.Hour), History: true, CoveredSeconds: 60,
		Resources: []tapv1alpha1.Resource{{Kind: "deployment", Namespace: "shop", Name: "web", Pods: 1, Meshed: 1}},
		Edges:     []tapv1alpha1.Edge{{Total: &tapv1alpha1.Sums{Requests: 120, Success: 120}, CoveredSeconds: 600}}, // 9 minutes of these are a gap
	}
	rows := (&Stat{Kind: "deployment"}).Rows(f)
	if len(rows) != 1 || rows[0].Rate(rows[0].Sums.Requests()) != 2 {
		t.Errorf("%+v, want one row with 2 requests a second", rows)
	}
}
