package node

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
	"github.com/underlane/underlane/pkg/agent/nodeapi"
	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/figures"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// startMemory starts an agent of node-1 that remembers calls from a pod of node-2, and from
// its own pod web to the pod db of node-2. One in four fails.
func startMemory(t *testing.T) (socket string) {
	t.Helper()
	workload := func(name, node string) *mesh.Workload {
		return &mesh.Workload{
			Name: name + "-1", Namespace: "shop", Node: node, OwnerKind: "deployment", OwnerName: name, Meshed: true, Ready: true,
			Identity: mesh.Identity{TrustDomain: "d", Namespace: "shop", ServiceAccount: name},
		}
	}
	web, db, front := workload("web", "node-1"), workload("db", "node-2"), workload("front", "node-2")
	store := figures.NewStore(figures.Options{}, time.Now())
	call := func(d mesh.Direction, from, to *mesh.Workload, n int) {
		for i := range n {
			e := tap.Event{
				Kind: tap.ResponseEnd, Direction: d, TLS: tap.TLSTrue, Protocol: "http1", Status: 200, Latency: 5 * time.Millisecond, Duration: 6 * time.Millisecond,
				Source: tap.Peer{Workload: from}, Destination: tap.Peer{Workload: to},
			}
			if i%4 == 0 {
				e.Status = 500
			}
			if d == mesh.Outbound {
				e.Service = &mesh.Service{Namespace: "shop", Name: "db"}
			}
			store.Emit(&e)
		}
	}
	call(mesh.Inbound, front, web, 40)
	call(mesh.Outbound, web, db, 20)

	socket = filepath.Join(t.TempDir(), "agent.sock")
	ln, err := nodeapi.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	server := &nodeapi.Server{
		Usage: usage{}, Lister: lister{}, Hub: tap.NewHub(), Source: &node{status: &agentv1.StatusResponse{Node: "node-1"}}, Node: "node-1", Memory: store,
		Pods: func() []*mesh.Workload { return []*mesh.Workload{web, workload("idle", "node-1")} },
	}
	go func() { done <- server.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return socket
}

// usage is what web uses.
type usage struct{}

func (usage) Report() *agentv1.ResourcesResponse {
	return &agentv1.ResourcesResponse{Node: "node-1", Pods: []*agentv1.PodResource{{
		Uid: "web", Namespace: "shop", Name: "web-1", OwnerKind: "deployment", OwnerName: "web",
		Containers: &agentv1.ContainerUsage{Known: 7, Cpu: 0.0012, CpuLimit: 1.5, Memory: 35<<20 + 1},
	}}}
}

// lister has a connection from outside the mesh to web, whose text wants to do harm.
type lister struct{}

func (lister) List(_ context.Context, r *agentv1.ConnectionsRequest) (*agentv1.ConnectionsResponse, error) {
	now := time.Now()
	c := &agentv1.OpenConnection{
		Event: &agentv1.TapEvent{
			Kind: agentv1.TapEvent_CONN_OPEN, Inbound: true, Time: timestamppb.New(now.Add(-90 * time.Minute)),
			Source:      &agentv1.Peer{Address: "192.0.2.1:999"},
			Destination: &agentv1.Peer{Address: "10.0.0.1:80", Workload: &agentv1.Workload{Namespace: "shop", Name: "web-1", OwnerKind: "deployment", OwnerName: "web", Meshed: true}},
			Tls:         tap.TLSNoIdentity, Protocol: "tcp\x1b[31m", Srtt: durationpb.New(1500 * time.Microsecond), Retransmits: 3, ReadBytes: 10, WriteBytes: 20,
			ClientLeg: &agentv1.Leg{Sent: 20},
		},
		Client: &agentv1.OpenConnection_Ends{Local: "10.0.0.1:80", Remote: "192.0.2.1:999"},
	}
	return &agentv1.ConnectionsResponse{Node: "node-1", Time: timestamppb.New(now), Connections: []*agentv1.OpenConnection{c}, Total: 1}, nil
}

// columns keeps some columns of a table, without the rates, which depend on the time.
func columns(text string, numbers ...int) (rows []string) {
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		fields := strings.Fields(line)
		var kept []string
		for _, n := range numbers {
			if n < len(fields) {
				kept = append(kept, fields[n])
			}
		}
		rows = append(rows, strings.Join(kept, " "))
	}
	return rows
}

func TestStat(t *testing.T) {
	socket := startMemory(t)
	for _, tc := range []struct {
		args string
		want []string
	}{
		{"stat deploy", []string{"NAMESPACE NAME MESHED SUCCESS LATENCY_P50", "shop idle 1/1 - -", "shop web 1/1 75.00% 5ms"}},
		{"stat deploy -A", []string{"NAMESPACE NAME MESHED SUCCESS LATENCY_P50", "shop idle 1/1 - -", "shop web 1/1 75.00% 5ms"}},
		{"stat deploy/web --to svc/db", []string{"NAMESPACE NAME MESHED SUCCESS LATENCY_P50", "shop web 1/1 75.00% 5ms"}},
		{"stat deploy --from deploy/web", []string{"NAMESPACE NAME MESHED SUCCESS LATENCY_P50", "shop db - 75.00% 5ms"}},
		{"stat svc", []string{"NAMESPACE NAME MESHED SUCCESS LATENCY_P50", "shop db - 75.00% 5ms"}},
		{"stat deploy web svc -t 10m", nil}, // svc is a name here: there is none
	} {
		r := run(t.Context(), Kernel{}, append(strings.Fields(tc.args), "--socket", socket)...)
		if tc.want == nil {
			if !strings.Contains(r.out, "web") || r.code != 1 || !strings.Contains(r.err, "no pod of deployment/svc is known") {
				t.Errorf("%s: %+v, want the Services, code 1 and which workload has no pod", tc.args, r)
			}
			continue
		}
		if diff := cmp.Diff(tc.want, columns(r.out, 0, 1, 2, 3, 5)); diff != "" || r.code != 0 {
			t.Errorf("agent %s: %d %s (-want +got):\n%s", tc.args, r.code, r.err, diff)
		}
	}
	if r := run(t.Context(), Kernel{}, "stat", "deploy", "-n", "nowhere", "--socket", socket); r.out != "" || !strings.Contains(r.err, "No traffic found.") || r.code != 0 {
		t.Errorf("a namespace without pods: %+v", r)
	}
}

func TestStatWide(t *testing.T) {
	socket := startMemory(t)
	r := run(t.Context(), Kernel{}, "stat", "deploy", "-n", "shop", "-o", "wide", "--socket", socket)
	want := []string{"NAME MESHED CPU CPU_LIMIT MEMORY MEMORY_LIMIT", "idle 1/1 - - - -", "web 1/1 2m 1500m 36Mi -"}
	if diff := cmp.Diff(want, columns(r.out, 0, 1, 13, 14, 15, 16)); diff != "" || r.code != 0 || r.err != "" {
		t.Errorf("%d %s (-want +got):\n%s", r.code, r.err, diff)
	}
	r = run(t.Context(), Kernel{}, "stat", "deploy/web", "-n", "shop", "-o", "json", "--socket", socket)
	var rows []map[string]any
	if err := json.Unmarshal([]byte(r.out), &rows); err != nil || len(rows) != 1 {
		t.Fatalf("error %v, %+v; want one row of JSON", err, r)
	}
	for name, want := range map[string]any{"cpu_cores": 0.0012, "cpu_limit_cores": 1.5, "memory_bytes": float64(35<<20 + 1), "memory_limit_bytes": nil} {
		if rows[0][name] != want {
			t.Errorf("%s: %v, want %v", name, rows[0][name], want)
		}
	}
}

func TestStatAsJSON(t *testing.T) {
	r := run(t.Context(), Kernel{}, "stat", "deploy/web", "-n", "shop", "-o", "json", "--socket", startMemory(t))
	var rows []struct {
		Namespace, Kind, Name, Meshed string
		Success, RPS                  float64
		P99                           int               `json:"latency_ms_p99"`
		Failures                      map[string]uint64 `json:"failures"`
	}
	if err := json.Unmarshal([]byte(r.out), &rows); err != nil {
		t.Fatalf("error %v, %+v; want rows of JSON", err, r)
	}
	if len(rows) != 1 || rows[0].Success != 0.75 || rows[0].P99 != 5 || rows[0].Failures["status"] != 10 || rows[0].RPS < 0.5 {
		t.Errorf("%+v, want one row with 75 %% of 40 requests in 60 to 70 seconds", rows)
	}
}

func TestEdges(t *testing.T) {
	socket := startMemory(t)
	r := run(t.Context(), Kernel{}, "edges", "deploy", "-o", "wide", "--socket", socket)
	want := []string{
		"SRC DST SRC_NS DST_NS CLIENT_ID SERVER_ID SECURED",
		"front web shop shop front.shop web.shop √", "web db shop shop web.shop db.shop √",
	}
	if diff := cmp.Diff(want, columns(r.out, 0, 1, 2, 3, 4, 5, 6)); diff != "" || r.code != 0 {
		t.Errorf("%d %s (-want +got):\n%s", r.code, r.err, diff)
	}
}

func TestStatMistakes(t *testing.T) {
	socket := startMemory(t)
	for args, want := range map[string]string{
		"stat":                                "requires at least 1 arg",
		"stat web":                            "no kind",
		"stat deploy -o yaml":                 "table, wide or json",
		"stat deploy --to svc/a --from svc/b": "give one of them",
		"stat deploy --to a":                  "no kind",
		"stat deploy -t 1s":                   "window",
		"stat deploy -t 6h":                   "underlane stat asks the controller",
		"edges deploy/web":                    "leave the name away",
		"edges svc":                           "stat svc",
		"edges":                               "accepts 1 arg",
		"connections web":                     "no kind",
		"connections --limit 0":               "--limit",
		"connections -o yaml":                 "table, wide or json",
	} {
		r := run(t.Context(), Kernel{}, append(strings.Fields(args), "--socket", socket)...)
		if r.code == 0 || !strings.Contains(r.err, want) {
			t.Errorf("%s: %+v, want an error with %q", args, r, want)
		}
	}
	if r := run(t.Context(), Kernel{}, "stat", "deploy", "--socket", socket+"x"); r.code == 0 || !strings.Contains(r.err, "is the agent running") {
		t.Errorf("without an agent: %+v", r)
	}
}

func TestConnections(t *testing.T) {
	socket := startMemory(t)
	r := run(t.Context(), Kernel{}, "connections", "deploy/web", "-o", "wide", "--socket", socket)
	want := []string{"AGE SRC DST PART PROTOCOL SECURED SRTT RETRANSMITS READ_BYTES WRITE_BYTES", "1h30m0s (outside) shop/web-1 - tcp\\u001b[31m no-identity 1.50ms 3 10 20"}
	if diff := cmp.Diff(want, columns(r.out, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)); diff != "" || r.code != 0 || !strings.Contains(r.out, "the client is outside the mesh") {
		t.Errorf("%+v (-want +got):\n%s", r, diff)
	}
	r = run(t.Context(), Kernel{}, "connections", "-o", "json", "--socket", socket)
	var list tapv1alpha1.ConnectionList
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || len(list.Items) != 1 || len(list.Items[0].Legs) != 1 || list.Items[0].Node != "node-1" {
		t.Errorf("%v: %+v, want the connection with its leg", err, r)
	}
	if r := run(t.Context(), Kernel{}, "connections", "-n", "elsewhere", "--socket", socket); r.out != "" || !strings.Contains(r.err, "No open connections found.") || r.code != 0 {
		t.Errorf("another namespace: %+v", r)
	}
}

// The node's dashboard has the checks of `agent check`.
func TestCheckAPI(t *testing.T) {
	for _, socket := range []string{startMemory(t), filepath.Join(t.TempDir(), "none")} {
		f := &Flags{Socket: socket}
		w := httptest.NewRecorder()
		f.CheckAPI(Kernel{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/check", nil))
		var got check.Answer
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || len(got.Categories) == 0 {
			t.Fatalf("error %v, %s; want categories", err, w.Body)
		}
		first, away := got.Categories[0].Checks[0], strings.HasSuffix(socket, "none")
		if got.Categories[0].Name != "node-agent" || (first.Result == "ok") == away || away && first.Hint == "" {
			t.Errorf("agent away %v: %+v", away, got)
		}
	}
}
