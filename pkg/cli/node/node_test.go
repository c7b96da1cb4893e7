package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/agent/nodeapi"
	"github.com/underlane/underlane/pkg/cli"
	"github.com/underlane/underlane/pkg/cli/check"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is an agent with a hub and a status, on a socket.
type node struct {
	hub    *tap.Hub
	status *agentv1.StatusResponse
	socket string
	asked  atomic.Int64 // calls of Costs
}

func (n *node) Status(context.Context) *agentv1.StatusResponse { return n.status }

// Costs returns costs that grow with each call.
func (n *node) Costs(context.Context) *agentv1.CostsResponse {
	spent := durationpb.New(time.Duration(n.asked.Add(1)) * time.Second)
	return &agentv1.CostsResponse{
		Node: "node-1", Time: timestamppb.Now(), Process: spent,
		Pods: []*agentv1.PodCost{
			{Namespace: "base", Name: "db", Uid: "1", Weight: 100},
			{Namespace: "shop", Name: "web", Uid: "2", Weight: 39, Outbound: &agentv1.Cost{Processor: spent}},
		},
	}
}

func (n *node) Dump(context.Context) ([]byte, error) { return []byte(`{"maps":{"pods":[]}}`), nil }

func startNode(t *testing.T) *node {
	t.Helper()
	n := &node{hub: tap.NewHub(), status: readyStatus(), socket: filepath.Join(t.TempDir(), "agent.sock")}
	ln, err := nodeapi.Listen(n.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- (&nodeapi.Server{Hub: n.hub, Source: n, Dumper: n, Ledger: n}).Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return n
}

func readyStatus() *agentv1.StatusResponse {
	now := time.Now()
	return &agentv1.StatusResponse{
		Version: "v0.1", Node: "node-1", Started: timestamppb.New(now.Add(-90 * time.Second)),
		Synced: true, SnapshotVersion: 12, ProgramsAttached: true,
		Controller: &agentv1.Controller{Address: "10.0.0.9:8443", Connected: true, Since: timestamppb.New(now.Add(-time.Minute))},
		Pods: []*agentv1.Pod{
			{Namespace: "emojivoto", Name: "web-1", Ip: "10.42.1.2", State: "enrolled", Identity: "spiffe://cluster.local/ns/emojivoto/sa/web", PreMeshConnections: 2, Since: timestamppb.New(now.Add(-time.Minute))},
		},
		Certificates: []*agentv1.Certificate{{
			Identity: "spiffe://cluster.local/ns/emojivoto/sa/web", State: "valid",
			NotBefore: timestamppb.New(now.Add(-time.Hour)), NotAfter: timestamppb.New(now.Add(23*time.Hour + time.Minute)),
		}},
		KernelEvents: []*agentv1.Counter{{Name: "connect_no_pod", Value: 3}},
	}
}

type result struct {
	out, err string
	code     int
}

func run(ctx context.Context, k Kernel, args ...string) result {
	return runTo(ctx, k, new(bytes.Buffer), args...)
}

// runUntil runs a command and interrupts it when it has said something.
func runUntil(ctx context.Context, said string, args ...string) result {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	return runTo(ctx, Kernel{}, &awaited{text: said, done: cancel}, args...)
}

// awaited calls done when it holds text.
type awaited struct {
	bytes.Buffer
	text string
	done func()
}

func (a *awaited) Write(p []byte) (int, error) {
	n, err := a.Buffer.Write(p)
	if strings.Contains(a.String(), a.text) {
		a.done()
	}
	return n, err
}

type output interface {
	io.Writer
	fmt.Stringer
}

func runTo(ctx context.Context, k Kernel, out output, args ...string) result {
	root := &cobra.Command{Use: "agent", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(Commands(AddFlags(root), k)...)
	var errs bytes.Buffer
	root.SetOut(out)
	root.SetErr(&errs)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	r := result{out: out.String(), err: errs.String()}
	if err != nil {
		r.code = 1
		if !errors.Is(err, cli.ErrSilent) {
			r.err += err.Error()
		}
	}
	return r
}

// traffic emits one request until ctx ends.
func traffic(ctx context.Context, hub *tap.Hub) (wait func()) {
	web := &mesh.Workload{Name: "web-1", Namespace: "emojivoto", OwnerKind: "deployment", OwnerName: "web"}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := uint64(0); ctx.Err() == nil; i++ {
			e := tap.Event{Kind: tap.RequestInit, Time: time.Now(), Base: 1, Stream: i, Source: tap.Peer{Workload: web}, Method: "GET", Authority: "web", Path: "/p", TLS: tap.TLSTrue}
			hub.Emit(&e)
			e.Kind, e.Status, e.Duration = tap.ResponseEnd, 503, time.Millisecond
			e.Reason = mesh.ReasonNoEndpoints
			hub.Emit(&e)
			hub.Emit(&tap.Event{Kind: tap.LegClose, Side: tap.ServerSide, Source: e.Source, Time: e.Time, Duration: time.Second})
			time.Sleep(time.Millisecond)
		}
	})
	return wg.Wait
}

func TestTapCommand(t *testing.T) {
	n := startNode(t)
	for output, want := range map[string]string{
		"":     "req id=1:",
		"wide": " src_deployment=web",
		"json": `"requestInitEvent":{"id":{"base":1`,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		wait := traffic(ctx, n.hub)
		r := runUntil(ctx, want, "tap", "deploy", "web", "--method", "GET", "-o", output, "--socket", n.socket)
		cancel()
		wait()
		if r.code != 0 || r.err != "" || !strings.Contains(r.out, want) || !strings.HasSuffix(r.out, "\n") {
			t.Errorf("-o %q: code %d, stderr %q, stdout %.300q", output, r.code, r.err, r.out)
		}
	}
	for _, args := range [][]string{{"--max-rps", "0"}, {"--max-rps", "0", "--connections"}} {
		asked := len(args) == 3
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		wait := traffic(ctx, n.hub)
		want := "end id=1:9"
		if asked {
			want = " leg=server"
		}
		r := runUntil(ctx, want, append([]string{"tap", "deploy/web", "--socket", n.socket}, args...)...)
		cancel()
		wait()
		if got := strings.Contains(r.out, " leg="); got != asked || !strings.Contains(r.out, want) {
			t.Errorf("tap %v: shows connections that requests pass: %v, want %v; stderr %q, stdout %.300q", args, got, asked, r.err, r.out)
		}
	}
	if r := run(t.Context(), Kernel{}, "tap", "nonsense", "--socket", n.socket); r.code != 1 || !strings.Contains(r.err, `no kind "nonsense"`) {
		t.Errorf("tap of an unknown kind: %+v, want code 1 and the name of the kind", r)
	}
	if r := run(t.Context(), Kernel{}, "tap", "-o", "yaml", "--socket", n.socket); r.code != 1 || !strings.Contains(r.err, "use one of wide, json") {
		t.Errorf("tap -o yaml: %+v, want code 1 and the formats that there are", r)
	}
}

func TestTopOnce(t *testing.T) {
	n := startNode(t)
	ctx, cancel := context.WithCancel(t.Context())
	wait := traffic(ctx, n.hub)
	defer wait()
	defer cancel()
	r := run(ctx, Kernel{}, "top", "--once", "--duration", "1s", "-o", "json", "--socket", n.socket)
	var got struct {
		Rows []struct {
			Source, Method, Path string
			Count                int
			SuccessRate          float64
			Reasons              map[string]int
		}
	}
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || r.code != 0 {
		t.Fatalf("error %v, %+v; want code 0 and JSON", err, r)
	}
	if len(got.Rows) != 1 || got.Rows[0].Source != "web-1" || got.Rows[0].Path != "/p" || got.Rows[0].Count == 0 ||
		got.Rows[0].SuccessRate != 0 || got.Rows[0].Reasons["no-endpoints"] != got.Rows[0].Count {
		t.Errorf("%+v, want one row: /p of web-1, all of it failed with no-endpoints", got)
	}
	if r := run(ctx, Kernel{}, "top", "--once", "--duration", "1s", "--hide-sources", "--socket", n.socket); r.code != 0 ||
		!strings.HasPrefix(r.out, "Destination  Method") || !strings.Contains(r.out, "0.00%") {
		t.Errorf("top --hide-sources: %+v, want code 0 and a table without sources", r)
	}
	if r := run(ctx, Kernel{}, "top", "--socket", n.socket); r.code != 1 || !strings.Contains(r.err, "--once") {
		t.Errorf("without a terminal: %+v", r)
	}
}

func TestTopPods(t *testing.T) {
	n := startNode(t)
	r := run(t.Context(), Kernel{}, "top", "--pods", "--once", "--duration", "1ms", "-n", "shop", "--socket", n.socket)
	if want := "\nshop/web  "; r.code != 0 || r.err != "" || !strings.Contains(r.out, want) || strings.Contains(r.out, "base/db") {
		t.Errorf("got %+v, want a line with %q and none of other namespaces", r, want)
	}
	r = run(t.Context(), Kernel{}, "top", "--pods", "-o", "json", "--duration", "1ms", "--sort", "-pod", "--socket", n.socket)
	var got struct {
		Agents []struct{ Node string }
		Pods   []struct {
			Namespace, Pod string
			Weight         int
			Outbound       struct{ CPU, CPUSeconds float64 }
		}
	}
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || r.code != 0 {
		t.Fatalf("error %v, %+v; want code 0 and JSON", err, r)
	}
	if len(got.Pods) != 2 || len(got.Agents) != 1 || got.Agents[0].Node != "node-1" || got.Pods[0].Pod != "web" || got.Pods[0].Outbound.CPU <= 0 || got.Pods[0].Weight != 39 {
		t.Errorf("got %+v, want two pods of node-1, web first, which uses the processor, with weight 39", got)
	}
	for want, args := range map[string][]string{
		"--path is not for --pods":        {"--path", "/a"},
		"leave \"deploy/web\" away":       {"deploy/web"},
		"use one of pod, cpu":             {"--sort", "count"},
		"use table or json":               {"-o", "yaml"},
		"--once":                          nil, // no terminal
		"is the agent running on this no": {"--once", "--socket", n.socket + "x"},
	} {
		r := run(t.Context(), Kernel{}, append([]string{"top", "--pods", "--socket", n.socket}, args...)...)
		if r.code != 1 || !strings.Contains(r.err, want) {
			t.Errorf("%q: got %+v, want an error with %q", args, r, want)
		}
	}
}

func TestStatus(t *testing.T) {
	n := startNode(t)
	want := `Agent         node-1, version v0.1, up 90s
Ready         yes
Controller    connected to 10.0.0.9:8443 for 60s
Snapshot      version 12
Programs      attached
Proxy         0 open connections, 0 plaintext fallbacks
Lost events   0 in the ring buffer, 0 by readers

NAMESPACE   POD     IP          STATE      PRE-MESH CONNECTIONS   SINCE   REASON
emojivoto   web-1   10.42.1.2   enrolled   2                      60s     

IDENTITY                                     STATE   EXPIRES IN   ERROR
spiffe://cluster.local/ns/emojivoto/sa/web   valid   23h0m        

KERNEL EVENT     COUNT
connect_no_pod   3
`
	shown := func(as func(out string) bool, runtime *agentv1.Runtime) (r result) {
		for range 10 { // a second may pass before it is asked for
			n.status = readyStatus()
			if n.status.Runtime = runtime; runtime.GetConnected() {
				runtime.Since = timestamppb.New(time.Now().Add(-time.Minute))
			}
			if r = run(t.Context(), Kernel{}, "status", "--socket", n.socket); as(r.out) {
				break
			}
		}
		return r
	}
	r := shown(func(out string) bool { return out == want }, nil)
	if diff := cmp.Diff(want, r.out); diff != "" || r.code != 0 {
		t.Errorf("code %d: %s", r.code, diff)
	}

	connected := func(out string) bool {
		return strings.Contains(out, "\nRuntime       connected to containerd 2.1 for 60s\n")
	}
	if r = shown(connected, &agentv1.Runtime{Connected: true, Name: "containerd 2.1"}); !connected(r.out) {
		t.Errorf("status, with a runtime: want it connected, got\n%s", r.out)
	}
	n.status.Runtime = &agentv1.Runtime{LastError: "no such socket"}
	if r = run(t.Context(), Kernel{}, "status", "--socket", n.socket); !strings.Contains(r.out, "\nRuntime       not connected: no such socket\n") {
		t.Errorf("status, without a runtime: want the cause, got\n%s", r.out)
	}

	n.status.ProgramsAttached = false
	r = run(t.Context(), Kernel{}, "status", "-o", "json", "--socket", n.socket)
	var got statusJSON
	if err := json.Unmarshal([]byte(r.out), &got); err != nil {
		t.Fatal(err)
	}
	if r.code != 1 || r.err != "" || got.Ready || len(got.NotReady) != 1 || got.SnapshotVersion != 12 ||
		got.KernelEvents["connect_no_pod"] != 3 || got.Pods[0].PreMeshConnections != 2 {
		t.Errorf("code %d, %+v", r.code, got)
	}
}

func TestNoAgent(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	for _, command := range []string{"tap", "status", "dump"} {
		r := run(t.Context(), Kernel{}, command, "--socket", socket)
		if r.code != 1 || !strings.Contains(r.err, "is the agent running on this node?") {
			t.Errorf("%s without an agent: %+v, want code 1 and the question whether it runs", command, r)
		}
	}
}

// A stopped process still has its socket: connections to it wait for ever.
func TestHungAgent(t *testing.T) {
	defer func(d time.Duration) { statusTimeout = d }(statusTimeout)
	statusTimeout = 50 * time.Millisecond
	socket := filepath.Join(t.TempDir(), "agent.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, command := range []string{"status", "check"} {
		r := run(t.Context(), Kernel{}, command, "--socket", socket)
		if r.code != 1 || !strings.Contains(r.err+r.out, "does not answer: it hangs, or is stopped") {
			t.Errorf("%s with an agent that hangs: %+v, want code 1 and that it does not answer", command, r)
		}
	}
}

func TestCheck(t *testing.T) {
	n := startNode(t)
	kernel := Kernel{
		Probes: func(*Flags) []check.Probe {
			return []check.Probe{{Name: "kernel has BTF", Run: func(context.Context) error { return nil }}}
		},
		Pins: func(f *Flags) []check.Probe {
			return []check.Probe{{Name: "objects are pinned under " + f.PinRoot, Run: func(context.Context) error { return nil }}}
		},
	}
	r := run(t.Context(), kernel, "check", "--socket", n.socket, "--pin-root", "/pins")
	if r.code != 0 || !strings.Contains(r.out, "√ objects are pinned under /pins\n") || !strings.HasSuffix(r.out, "\n\nStatus check results are √\n") {
		t.Errorf("code %d:\n%s", r.code, r.out)
	}

	old := timestamppb.New(time.Now().Add(-time.Hour))
	for name, c := range map[string]struct {
		change func(*agentv1.StatusResponse)
		code   int
		want   string
	}{
		"programs":            {func(s *agentv1.StatusResponse) { s.ProgramsAttached = false }, 1, "× BPF programs are attached\n    "},
		"no state":            {func(s *agentv1.StatusResponse) { s.Synced, s.SnapshotVersion = false, 0 }, 1, "× agent has state"},
		"controller away":     {func(s *agentv1.StatusResponse) { s.Controller.Connected = false }, 0, "‼ controller is connected"},
		"controller never":    {func(s *agentv1.StatusResponse) { s.Controller.Connected, s.Synced = false, false }, 1, "× controller is connected"},
		"certificate failed":  {func(s *agentv1.StatusResponse) { s.Certificates[0].State = "failed" }, 1, "sa/web is failed\n"},
		"certificate expired": {func(s *agentv1.StatusResponse) { s.Certificates[0].NotAfter = old }, 1, "sa/web has expired\n"},
		"certificate old": {func(s *agentv1.StatusResponse) {
			s.Certificates[0].NotAfter = timestamppb.New(time.Now().Add(time.Minute))
		}, 0, "‼ certificates are renewed in time"},
		"pod failed":           {func(s *agentv1.StatusResponse) { s.Pods[0].State, s.Pods[0].Reason = "failed", "netns is gone" }, 1, "× every labelled pod is enrolled\n    emojivoto/web-1 is failed: netns is gone\n"},
		"pod pending too long": {func(s *agentv1.StatusResponse) { s.Pods[0].State = "pending" }, 1, "× every labelled pod"},
		"pod just pending": {func(s *agentv1.StatusResponse) {
			s.Pods[0].State, s.Pods[0].Since = "pending", timestamppb.Now()
		}, 0, "√ every labelled pod"},
		"no container runtime": {func(s *agentv1.StatusResponse) {
			s.Runtime = &agentv1.Runtime{LastError: "/run/nri.sock does not exist"}
		}, 0, "‼ pods are enrolled before they start\n    /run/nri.sock does not exist\n"},
		"container runtime": {func(s *agentv1.StatusResponse) { s.Runtime = &agentv1.Runtime{Connected: true} }, 0, "√ pods are enrolled before they start"},
		"pod left out":      {func(s *agentv1.StatusResponse) { s.Pods[0].State, s.Pods[0].Reason = "left-out", "host network" }, 0, "‼ no labelled pod is left out\n    emojivoto/web-1 is left-out: host network\n"},
	} {
		t.Run(name, func(t *testing.T) {
			n.status = readyStatus()
			c.change(n.status)
			r := run(t.Context(), kernel, "check", "--socket", n.socket)
			if r.code != c.code || !strings.Contains(r.out, c.want) {
				t.Errorf("code %d:\n%s", r.code, r.out)
			}
		})
	}

	r = run(t.Context(), kernel, "check", "-o", "json", "--socket", n.socket+"x")
	var report check.Report
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || r.code != 1 || report.Success || len(report.Categories) != 3 {
		t.Errorf("no agent: %v %+v", err, r)
	}
}

func TestDump(t *testing.T) {
	n := startNode(t)
	if r := run(t.Context(), Kernel{}, "dump", "--socket", n.socket); r.code != 0 || !json.Valid([]byte(r.out)) || !strings.Contains(r.out, "\n  \"maps\"") {
		t.Errorf("dump: %+v, want code 0 and JSON with the maps", r)
	}
}

func TestCleanup(t *testing.T) {
	n := startNode(t)
	k := Kernel{Cleanup: func(_ context.Context, f *Flags) ([]string, error) { return []string{f.PinRoot + "/pods"}, nil }}
	if r := run(t.Context(), k, "cleanup", "--socket", n.socket); r.code != 1 || !strings.Contains(r.err, "an agent is running") {
		t.Errorf("cleanup beside an agent: %+v, want code 1 and that one runs", r)
	}
	if r := run(t.Context(), k, "cleanup", "--socket", n.socket+"x", "--pin-root", "/pins"); r.code != 0 || r.out != "removed /pins/pods\n" {
		t.Errorf("cleanup: %+v, want code 0 and /pins/pods removed", r)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("UNDERLANE_SOCKET", "/s")
	t.Setenv("UNDERLANE_PIN_ROOT", "/p")
	t.Setenv("UNDERLANE_CGROUP_ROOT", "/c")
	root := &cobra.Command{Use: "agent"}
	if got, want := *AddFlags(root), (Flags{"/s", "/p", "/c"}); got != want {
		t.Errorf("flags are %+v, want %+v", got, want)
	}
}

// quiet is a stream whose first batch has an event.
type quiet struct{}

func (quiet) Recv() (*agentv1.TapEvents, error) {
	return &agentv1.TapEvents{Events: []*agentv1.TapEvent{{}}}, nil
}

// TestTapOfUnknown: a pod of another node may be called later, so that its tap begins with a
// warning, and goes on.
func TestTapOfUnknown(t *testing.T) {
	w := &warned{Stream: quiet{}, text: "no agent knows it"}
	first, err := w.Recv()
	if err != nil || len(first.GetWarnings()) != 1 || first.GetWarnings()[0] != "no agent knows it" {
		t.Errorf("first: %v, %v; want the warning", first, err)
	}
	if second, err := w.Recv(); err != nil || len(second.GetWarnings()) != 0 || len(second.GetEvents()) != 1 {
		t.Errorf("second: %v, %v; want the event", second, err)
	}
}
