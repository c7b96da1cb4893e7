package accesslog

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tracing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pod(format mesh.AccessLog) *mesh.Workload {
	return &mesh.Workload{UID: "u", Name: "web-1", Namespace: "shop", Node: "n1", Settings: mesh.Settings{AccessLog: format}}
}

func event(format mesh.AccessLog) tap.Event {
	return tap.Event{
		Kind: tap.ResponseEnd, Direction: mesh.Inbound, Time: time.Date(2026, 11, 29, 10, 0, 3, 0, time.UTC), Duration: 3 * time.Second,
		Source: tap.Peer{
			Addr:     netip.MustParseAddrPort("10.0.0.1:4242"),
			Identity: mesh.Identity{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "bot"},
		},
		Destination: tap.Peer{Workload: pod(format)},
		Method:      "GET", Authority: "web:80", Path: "/a?b=c", Status: 200, ReadBytes: 1, WriteBytes: 2326,
		Split: tap.Split{Queue: time.Microsecond},
		Head:  &tap.Head{Version: "1.1", UserAgent: "curl/8", Referer: "http://a/"},
	}
}

// written returns what a Log writes of events.
func written(t *testing.T, events ...tap.Event) string {
	t.Helper()
	var out bytes.Buffer
	l := New(Options{Out: &out})
	for i := range events {
		l.Emit(&events[i])
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l.Run(ctx)
	if n := l.waiting.Load(); n != 0 {
		t.Errorf("%d bytes still count as waiting, want 0", n)
	}
	return out.String()
}

func TestApache(t *testing.T) {
	e := event(mesh.AccessLogApache)
	bare := event(mesh.AccessLogApache)
	bare.Source, bare.WriteBytes, bare.Head, bare.Status = tap.Peer{}, 0, &tap.Head{Version: "2"}, 403
	want := `shop/web-1 10.0.0.1 - spiffe://cluster.local/ns/shop/sa/bot [29/Nov/2026:10:00:00 +0000] "GET /a?b=c HTTP/1.1" 200 2326 "http://a/" "curl/8"` + "\n" +
		`shop/web-1 - - - [29/Nov/2026:10:00:00 +0000] "GET /a?b=c HTTP/2.0" 403 - "-" "-"` + "\n"
	if diff := cmp.Diff(want, written(t, e, bare)); diff != "" {
		t.Errorf("the log has (-want +got):\n%s", diff)
	}
}

func TestJSON(t *testing.T) {
	e := event(mesh.AccessLogJSON)
	e.Trace = &tracing.Trace{ID: tracing.ID{1}, Span: tracing.SpanID{2}}
	e.GRPC, e.GRPCStatus, e.Reason = true, 7, mesh.ReasonPolicyDenied
	var got map[string]any
	if err := json.Unmarshal([]byte(written(t, e)), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"timestamp": "2026-11-29T10:00:00Z", "namespace": "shop", "pod": "web-1", "client.addr": "10.0.0.1:4242",
		"client.id": "spiffe://cluster.local/ns/shop/sa/bot", "method": "GET", "host": "web:80", "uri": "/a?b=c", "version": "HTTP/1.1",
		"status": 200.0, "grpc_status": 7.0, "request_bytes": 1.0, "response_bytes": 2326.0, "processing_ns": 1000.0, "total_ns": 3e9,
		"user_agent": "curl/8", "referer": "http://a/", "reason": "policy-denied",
		"trace_id": "01000000000000000000000000000000", "span_id": "0200000000000000",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the line has (-want +got):\n%s", diff)
	}
}

// TestWhichRequests says which requests are of a pod's log.
func TestWhichRequests(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*tap.Event)
		want   int
	}{
		"inbound":         {func(*tap.Event) {}, 1},
		"same node":       {func(e *tap.Event) { e.Direction, e.TLS = mesh.Outbound, tap.TLSSameNode }, 1},
		"to another node": {func(e *tap.Event) { e.Direction, e.TLS = mesh.Outbound, tap.TLSTrue }, 0},
		"same node, not reached": {func(e *tap.Event) {
			e.Direction, e.TLS, e.Reason = mesh.Outbound, tap.TLSSameNode, mesh.ReasonConnectRefused
		}, 0},
		"refused by the policy":   {func(e *tap.Event) { e.Reason = mesh.ReasonPolicyDenied }, 1},
		"pod without a log":       {func(e *tap.Event) { e.Destination.Workload = pod(mesh.AccessLogNone) }, 0},
		"unknown pod":             {func(e *tap.Event) { e.Destination.Workload = nil }, 0},
		"the head of the request": {func(e *tap.Event) { e.Kind = tap.RequestInit }, 0},
		"before the pod had it":   {func(e *tap.Event) { e.Head = nil }, 0},
	} {
		e := event(mesh.AccessLogApache)
		tc.change(&e)
		if got := strings.Count(written(t, e), "\n"); got != tc.want {
			t.Errorf("%s: %d lines, want %d", name, got, tc.want)
		}
	}
}

// hostile are values that try to forge lines, or to command a terminal.
var hostile = []string{
	"/a\r\nshop/web-1 10.0.0.9 - - forged", "/\x1b[2J\x1b]0;title\x07", "/\u009b31m", "/\x9b31m", "/\u202egnp.exe", "/\u2028\u2029",
	`/" 200 1 "x" "y`, `/\`, "/\x00\x7f", "/\xff\xfe", "/\U000e0001", `","status":"500`, strings.Repeat("\x1b", 100_000),
}

func TestHostileValues(t *testing.T) {
	for _, value := range hostile {
		checkHostile(t, value)
	}
}

func FuzzLines(f *testing.F) {
	for _, value := range hostile[:len(hostile)-1] {
		f.Add(value)
	}
	f.Fuzz(checkHostile)
}

func checkHostile(t *testing.T, value string) {
	for _, format := range []mesh.AccessLog{mesh.AccessLogApache, mesh.AccessLogJSON} {
		e := event(format)
		e.Method, e.Path, e.Authority = value, value, value
		e.Head = &tap.Head{Version: "1.1", UserAgent: value, Referer: value}
		got := written(t, e)
		line, rest, _ := strings.Cut(got, "\n")
		if rest != "" {
			t.Errorf("%v: %.100q makes more than one line: %q", format, value, got)
		}
		for _, r := range line {
			if !unicode.IsPrint(r) || format == mesh.AccessLogApache && r > '~' {
				t.Errorf("%v: %.100q makes the character %U in the line %.200q", format, value, r, line)
				break
			}
		}
		if len(line) > 5*6*maxValue+1024 {
			t.Errorf("%v: a line of %d bytes", format, len(line))
		}
		if format == mesh.AccessLogApache {
			if n := strings.Count(strings.NewReplacer(`\\`, "", `\"`, "").Replace(line), `"`); n != 6 {
				t.Errorf("%.100q makes %d quotes that delimit, want 6: %.200q", value, n, line)
			}
			continue
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Errorf("%.100q makes no JSON: %v: %.200q", value, err, line)
		} else if fields["status"] != 200.0 {
			t.Errorf("%.100q makes the status %v, want 200", value, fields["status"])
		}
	}
}

// stuck is a writer that does not return.
type stuck struct{ release chan struct{} }

func (s stuck) Write(p []byte) (int, error) { <-s.release; return len(p), nil }

// TestBounds: neither a pod with many requests nor a log that nobody reads makes requests
// wait, or takes more memory than its share.
func TestBounds(t *testing.T) {
	out := stuck{make(chan struct{})}
	l := New(Options{Out: out})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	e := event(mesh.AccessLogApache)
	const n = 2 * burst
	for range n {
		l.Emit(&e)
	}
	// A second or two may pass meanwhile on a slow machine.
	if got := l.Dropped(); got["rate"] == 0 || got["rate"] > burst || got["queue"] != 0 {
		t.Errorf("dropped %v of %d lines of a pod, want about %d by its rate", got, n, burst)
	}
	e.Path = strings.Repeat("x", 2*maxValue)
	for i := range 10 {
		e.Destination.Workload = pod(mesh.AccessLogApache)
		e.Destination.Workload.UID = string(rune('a' + i))
		for range burst {
			l.Emit(&e)
		}
	}
	if got := l.Dropped(); got["queue"] == 0 {
		t.Errorf("dropped %v, want some for want of room", got)
	}
	if got := l.waiting.Load(); got > maxWaiting {
		t.Errorf("%d bytes wait, want at most %d", got, maxWaiting)
	}
	close(out.release)
	cancel()
	running.Wait()
	if got := l.waiting.Load(); got != 0 {
		t.Errorf("%d bytes wait at the end, want 0", got)
	}
}

// TestActive: the pods of the node decide, as they are now.
func TestActive(t *testing.T) {
	store := state.NewStore("n1")
	version := uint64(0)
	apply := func(w *mesh.Workload) {
		t.Helper()
		version++
		if err := store.Apply(state.Delta{Version: version, Synced: true, Resources: []state.Resource{
			{Name: state.WorkloadName(w.UID), Version: string(rune('0' + version)), Workload: w},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	l := New(Options{View: store.View})
	far := pod(mesh.AccessLogJSON)
	far.UID, far.Node = "far", "n2"
	for i, tc := range []struct {
		pod  *mesh.Workload
		want bool
	}{{pod(mesh.AccessLogNone), false}, {far, false}, {pod(mesh.AccessLogJSON), true}, {pod(mesh.AccessLogNone), false}} {
		apply(tc.pod)
		if got := l.Active(); got != tc.want {
			t.Errorf("step %d: active %v, want %v", i, got, tc.want)
		}
	}
	if got := testing.AllocsPerRun(100, func() { l.Active() }); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}
