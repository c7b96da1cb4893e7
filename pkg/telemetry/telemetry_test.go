package telemetry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/tap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func identity(sa string) mesh.Identity {
	return mesh.Identity{TrustDomain: "cluster.local", Namespace: "ns", ServiceAccount: sa}
}

func event(kind tap.Kind, change func(*tap.Event)) *tap.Event {
	e := &tap.Event{
		Time: time.Now(), Kind: kind, TLS: tap.TLSTrue, Protocol: "grpc", Status: 200, Latency: 7 * time.Millisecond, Duration: time.Second,
		Source: tap.Peer{
			Addr: netip.MustParseAddrPort("10.0.0.1:1"), Identity: identity("web"),
			Workload: &mesh.Workload{Name: "web-1", Namespace: "ns", OwnerKind: "deployment", OwnerName: "web", Identity: identity("web")},
		},
		Destination: tap.Peer{
			Addr: netip.MustParseAddrPort("10.0.0.2:80"), Identity: identity("voting"),
			Workload: &mesh.Workload{Name: "voting-0", Namespace: "ns", OwnerKind: "statefulset", OwnerName: "voting", Identity: identity("voting")},
		},
		Service:   &mesh.Service{Name: "voting-svc", Namespace: "ns"},
		Authority: "voting-svc:80", ReadBytes: 10, WriteBytes: 20,
	}
	if change != nil {
		change(e)
	}
	return e
}

// scrape returns the lines of m's own families that match one of prefixes.
func scrape(t *testing.T, m *Metrics, prefixes ...string) []string {
	t.Helper()
	rec := httptest.NewRecorder()
	m.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("/metrics: %d: %s", rec.Code, rec.Body)
	}
	var lines []string
	for line := range strings.Lines(rec.Body.String()) {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(line, p) }) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

const (
	webLabels = `authority="voting-svc.ns.svc.cluster.local",deployment="web",direction="outbound",dst_namespace="ns",dst_pod="voting-0",dst_service="voting-svc",dst_statefulset="voting",`
)

func TestRequests(t *testing.T) {
	m := New(Options{})
	m.Emit(event(tap.RequestInit, nil))
	m.Emit(event(tap.RequestInit, nil))
	m.Emit(event(tap.ResponseInit, nil))
	m.Emit(event(tap.ResponseEnd, func(e *tap.Event) { e.GRPC, e.GRPCStatus = true, 14 }))
	m.Emit(event(tap.RequestInit, func(e *tap.Event) { e.Direction = mesh.Inbound }))
	want := []string{
		`request_total{` + webLabels + `namespace="ns",pod="web-1",server_id="spiffe://cluster.local/ns/ns/sa/voting",tls="true"} 2`,
		`request_total{client_id="spiffe://cluster.local/ns/ns/sa/web",direction="inbound",namespace="ns",pod="voting-0",statefulset="voting",tls="true"} 1`,
		`response_total{` + strings.Replace(webLabels, `deployment=`, `classification="failure",deployment=`, 1) +
			`grpc_status_code="14",namespace="ns",pod="web-1",server_id="spiffe://cluster.local/ns/ns/sa/voting",status_code="200",tls="true"} 1`,
	}
	got := scrape(t, m, "request_total", "response_total")
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestRoutes: what the client sees, and what it took.
func TestRoutes(t *testing.T) {
	m := New(Options{})
	route := &mesh.Route{Kind: "HTTPRoute", Namespace: "ns", Name: "votes"}
	for range 3 {
		m.Emit(event(tap.ResponseEnd, func(e *tap.Event) { e.Route, e.Rule, e.Retries = route, "all", 2 }))
	}
	m.Emit(event(tap.ResponseEnd, func(e *tap.Event) { e.Route, e.Rule, e.Status = route, "all", 503 }))
	m.Emit(event(tap.ResponseEnd, nil))
	const labels = `deployment="web",direction="outbound",dst_namespace="ns",dst_service="voting-svc",namespace="ns",pod="web-1",rt_kind="HTTPRoute",rt_route="votes",rt_route_ns="ns",rt_rule="all"} `
	want := []string{
		`route_actual_response_total{classification="failure",` + labels + "7",
		`route_actual_response_total{classification="success",` + labels + "3",
		`route_response_latency_ms_count{` + labels + "4",
		`route_response_total{classification="failure",` + labels + "1",
		`route_response_total{classification="success",` + labels + "3",
		`route_retry_total{` + labels + "6",
	}
	got := scrape(t, m, "route_actual_response_total", "route_response_total", "route_retry_total", "route_response_latency_ms_count")
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLatency(t *testing.T) {
	m := New(Options{})
	for _, d := range []time.Duration{0, time.Millisecond, 1001 * time.Microsecond, 7 * time.Millisecond, time.Hour} {
		m.Emit(event(tap.ResponseEnd, func(e *tap.Event) { e.Latency = d }))
	}
	var got []string
	for _, line := range scrape(t, m, "response_latency_ms") {
		if _, le, ok := strings.Cut(line, `,le="`); ok {
			got = append(got, strings.ReplaceAll(le, `"}`, ""))
		} else {
			got = append(got, line[:strings.Index(line, "{")]+line[strings.LastIndex(line, " "):])
		}
	}
	want := []string{
		"1 2", "2 3", "3 3", "4 3", "5 3", "10 4", "20 4", "30 4", "40 4", "50 4", "100 4", "200 4", "300 4", "400 4", "500 4",
		"1000 4", "2000 4", "3000 4", "4000 4", "5000 4", "10000 4", "20000 4", "30000 4", "40000 4", "50000 4", "+Inf 5",
		"response_latency_ms_sum 3.600009001e+06", "response_latency_ms_count 5",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// One pass of the proxy is both sides of a same-node request.
func TestSameNodeCountsBothSides(t *testing.T) {
	m := New(Options{})
	m.Emit(event(tap.RequestInit, func(e *tap.Event) { e.TLS = tap.TLSSameNode }))
	lines := strings.Join(scrape(t, m, "request_total"), "\n")
	if !strings.Contains(lines, `direction="outbound"`) || !strings.Contains(lines, `direction="inbound",namespace="ns",pod="voting-0"`) {
		t.Errorf("got %q, want an outbound series, and an inbound one of ns/voting-0", lines)
	}
}

func TestConnections(t *testing.T) {
	m := New(Options{})
	open := func() { m.Emit(event(tap.ConnOpen, nil)) }
	open()
	open()
	open()
	m.Emit(event(tap.ConnClose, nil))
	m.Emit(event(tap.ConnClose, func(e *tap.Event) { e.Reason = mesh.ReasonUpstreamReset }))
	m.Emit(event(tap.ConnClose, func(e *tap.Event) { e.Reason, e.Duration = mesh.ReasonConnectRefused, 0 }))
	got := map[string]string{}
	for _, line := range scrape(t, m, "tcp_") {
		name, rest, _ := strings.Cut(line, "{")
		if strings.HasSuffix(name, "_bucket") && !strings.Contains(rest, `le="1000"`) {
			continue
		}
		var key []string
		for _, label := range []string{"peer", "classification", "errno", "reason"} {
			if _, v, ok := strings.Cut(rest, label+`="`); ok {
				key = append(key, v[:strings.Index(v, `"`)])
			}
		}
		got[name+" "+strings.Join(key, " ")] = rest[strings.LastIndex(rest, " ")+1:]
	}
	want := map[string]string{}
	for _, peer := range []string{"src", "dst"} {
		want["tcp_open_total "+peer] = "3"
		want["tcp_open_connections "+peer] = "1"
		want["tcp_close_total "+peer+" success"] = "1"
		want["tcp_close_total "+peer+" failure ECONNRESET upstream-reset"] = "1"
		want["tcp_close_total "+peer+" failure ECONNREFUSED connect-refused"] = "1"
		want["tcp_connection_duration_ms_bucket "+peer] = "2"
		want["tcp_connection_duration_ms_sum "+peer] = "2000"
		want["tcp_connection_duration_ms_count "+peer] = "2"
	}
	want["tcp_read_bytes_total src"], want["tcp_write_bytes_total src"] = "20", "40"
	want["tcp_read_bytes_total dst"], want["tcp_write_bytes_total dst"] = "40", "20"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	// Closes of connections that were open before we were leave the gauge at 0.
	m.Emit(event(tap.ConnClose, nil))
	m.Emit(event(tap.ConnClose, nil))
	for _, line := range scrape(t, m, "tcp_open_connections") {
		if !strings.HasSuffix(line, " 0") {
			t.Errorf("got %q, want 0", line)
		}
	}
}

func TestAuthorityGuard(t *testing.T) {
	m := New(Options{MaxSeries: 10})
	for i := range 100 {
		m.Emit(event(tap.RequestInit, func(e *tap.Event) { e.Service, e.Authority = nil, fmt.Sprintf("host-%d\xff", i) }))
	}
	lines := scrape(t, m, "request_total")
	if len(lines) != 11 {
		t.Errorf("%d series, want 10 and one for the others", len(lines))
	}
	var other string
	for _, line := range lines {
		if strings.Contains(line, `authority="other"`) {
			other = line
		}
	}
	if !strings.HasSuffix(other, " 90") {
		t.Errorf("others: %q", other)
	}
	want := []string{`underlane_metrics_overflow_total{outcome="dropped"} 0`, `underlane_metrics_overflow_total{outcome="folded"} 90`}
	if diff := cmp.Diff(want, scrape(t, m, "underlane_metrics_overflow_total")); diff != "" {
		t.Error(diff)
	}
}

func TestHardBound(t *testing.T) {
	m := New(Options{MaxSeries: 10})
	for i := range 100 { // the server chooses its status
		m.Emit(event(tap.ResponseEnd, func(e *tap.Event) { e.Status = 100 + i }))
	}
	if n := len(scrape(t, m, "response_total")); n != 20 {
		t.Errorf("%d series, want 20", n)
	}
	if got := scrape(t, m, `underlane_metrics_overflow_total{outcome="dropped"}`); !strings.HasSuffix(got[0], " 80") {
		t.Errorf("got %q, want 80", got)
	}
}

func TestIdleSeriesGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Options{})
		m.Emit(event(tap.RequestInit, nil))
		m.Emit(event(tap.ResponseEnd, nil))
		m.Emit(event(tap.ConnOpen, nil))
		count := func() int { return len(scrape(t, m, "request_total", "response_total", "tcp_open_connections")) }
		if n := count(); n != 4 {
			t.Fatalf("%d series at first", n)
		}
		time.Sleep(9 * time.Minute)
		m.Emit(event(tap.RequestInit, nil))
		time.Sleep(9 * time.Minute)
		if got := scrape(t, m, "request_total"); len(got) != 1 || !strings.HasSuffix(got[0], " 2") {
			t.Errorf("a series in use: %v", got)
		}
		if n := count(); n != 3 { // the connection is still open: its series stay
			t.Errorf("%d series, want the response's gone", n)
		}
		time.Sleep(11 * time.Minute)
		m.Emit(event(tap.ConnClose, nil))
		time.Sleep(11 * time.Minute)
		if n := count(); n != 0 {
			t.Errorf("%d series at last", n)
		}
	})
}

func TestEmitAllocates0(t *testing.T) {
	m := New(Options{})
	for _, kind := range []tap.Kind{tap.RequestInit, tap.ResponseInit, tap.ResponseEnd, tap.ConnOpen, tap.ConnClose, tap.LegOpen, tap.LegClose} {
		for _, tls := range []string{tap.TLSTrue, tap.TLSSameNode} {
			e := event(kind, func(e *tap.Event) { e.TLS, e.Route, e.Side = tls, new(mesh.Route), tap.ServerSide })
			m.Emit(e)
			if n := testing.AllocsPerRun(100, func() { m.Emit(e) }); n != 0 {
				t.Errorf("kind %d, tls %s: %v allocations", kind, tls, n)
			}
		}
	}
}

func TestConcurrent(t *testing.T) {
	m := New(Options{MaxSeries: 50})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 500 {
				m.Emit(event(tap.RequestInit, func(e *tap.Event) { e.Service, e.Authority = nil, fmt.Sprintf("%d", (i+g)%100) }))
			}
		})
	}
	wg.Go(func() {
		for range 5 {
			scrape(t, m)
		}
	})
	wg.Wait()
	total := 0
	for _, line := range scrape(t, m, "request_total") {
		var n int
		if _, err := fmt.Sscan(line[strings.LastIndex(line, " "):], &n); err != nil {
			t.Fatal(err)
		}
		total += n
	}
	if total != 2000 {
		t.Errorf("%d requests, want 2000", total)
	}
}

func TestAgentMetrics(t *testing.T) {
	m := New(Options{Agent: &agent{stats: Stats{
		RingbufLost: 1, TapLost: 2, PlaintextFallbacks: 3, RetriesRefused: 8, PolicyAudited: 15, PolicyRevoked: 16, RequestsRevoked: 19, ExpressionsFailed: 18,
		PolicyDecisions: map[calls.Total]uint64{{Namespace: "shop", Kind: "deployment", Name: "api", Object: "Server.policy.linkerd.io shop/api", Verdict: "denied"}: 17}, MirrorsDropped: 9,
		Checks:           map[string]CheckTimes{"denied": {Count: 5, Seconds: 0.25, Buckets: map[float64]uint64{0.05: 3}}},
		AcceptsExhausted: 6, ConnectionPanics: 7, Repairs: 12, HTTP2Waiting: 14, KernelPaths: 19, KernelPathsRefused: 20, RedirectedPods: 21,
		LimitHits:    map[string]uint64{"pod-buffer": 11},
		KernelEvents: map[string]uint64{"no_pod": 4},
		Sandboxes:    map[string]uint64{"enrolled": 13},
		Pods:         map[string]int{"enrolled": 5},
		Ejections:    map[string]uint64{"unreachable": 10},
		Endpoints: []Endpoints{
			{Namespace: "shop", Service: "web", Port: 80, In: 2, Ejected: 1},
			{Namespace: "shop", Service: "web", Port: 80, In: 1},
		},
		CertificateExpiry: map[mesh.Identity]time.Time{identity("web"): time.Unix(1_700_000_000, 0), identity("waits"): {}},
		CertificateStart:  map[mesh.Identity]time.Time{identity("web"): time.Unix(1_600_000_000, 0), identity("waits"): {}},
	}}})
	want := []string{
		`identity_cert_expiration_timestamp_seconds{identity="spiffe://cluster.local/ns/ns/sa/web"} 1.7e+09`,
		`underlane_accept_exhausted_total 6`,
		`underlane_cert_start_timestamp_seconds{identity="spiffe://cluster.local/ns/ns/sa/web"} 1.6e+09`,
		`underlane_connection_panics_total 7`,
		`underlane_ejections_total{reason="unreachable"} 10`,
		`underlane_endpoints{dst_namespace="shop",dst_port="80",dst_service="web",state="ejected"} 1`,
		`underlane_endpoints{dst_namespace="shop",dst_port="80",dst_service="web",state="in"} 3`,
		`underlane_external_auth_duration_seconds_bucket{result="denied",le="0.05"} 3`,
		`underlane_external_auth_duration_seconds_bucket{result="denied",le="+Inf"} 5`,
		`underlane_external_auth_duration_seconds_sum{result="denied"} 0.25`,
		`underlane_external_auth_duration_seconds_count{result="denied"} 5`,
		`underlane_http2_waiting_requests 14`,
		`underlane_kernel_events_total{reason="no_pod"} 4`,
		`underlane_kernel_path_redirect_pods 21`,
		`underlane_kernel_paths 19`,
		`underlane_kernel_paths_refused_total 20`,
		`underlane_limit_hits_total{limit="pod-buffer"} 11`,
		`underlane_mirrors_dropped_total 9`,
		`underlane_plaintext_fallback_total 3`,
		`underlane_pods{state="enrolled"} 5`,
		`underlane_pods{state="failed"} 0`,
		`underlane_pods{state="left-out"} 0`,
		`underlane_pods{state="pending"} 0`,
		`underlane_pods_without_metrics 0`,
		`underlane_policy_audited_total 15`,
		`underlane_policy_decisions_total{kind="deployment",name="api",namespace="shop",object="Server.policy.linkerd.io shop/api",rule="",verdict="denied"} 17`,
		`underlane_policy_expression_failures_total 18`,
		`underlane_policy_revoked_requests_total 19`,
		`underlane_policy_revoked_total 16`,
		`underlane_ready 1`,
		`underlane_repairs_total 12`,
		`underlane_retries_refused_total 8`,
		`underlane_ringbuf_lost_total 1`,
		`underlane_sandboxes_total{outcome="enrolled"} 13`,
		`underlane_tap_lost_total 2`,
	}
	if diff := cmp.Diff(want, scrape(t, m, "identity_", "underlane_accept", "underlane_c", "underlane_e", "underlane_http2", "underlane_kernel", "underlane_limit", "underlane_mirrors", "underlane_p", "underlane_re", "underlane_ring", "underlane_sandboxes", "underlane_tap")); diff != "" {
		t.Error(diff)
	}
	if len(scrape(t, m, "go_goroutines ", "process_open_fds ")) != 2 {
		t.Error("the runtime's or the process's metrics are missing")
	}
}

func TestHealthAndServe(t *testing.T) {
	why := []string{"no state yet"}
	m := New(Options{Agent: &agent{notReady: func() []string { return why }}})
	ctx, cancel := context.WithCancel(context.Background())
	ln, err := Listen(ctx, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, m.Handler()) }()
	base := "http://" + ln.Addr().String()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string) string {
		resp, err := client.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d %s", resp.StatusCode, body)
	}
	if got := get("/live"); got != "200 live\n" {
		t.Errorf("got %q, want 200 live", got)
	}
	if got := get("/ready"); got != "503 not ready\nno state yet\n" {
		t.Errorf("got %q, want 503 not ready, and why", got)
	}
	if got := scrape(t, m, "underlane_ready"); !slices.Equal(got, []string{"underlane_ready 0"}) {
		t.Errorf("%q while the agent is not ready", got)
	}
	why = nil
	if got := get("/ready"); got != "200 ready\n" {
		t.Errorf("got %q, want 200 ready", got)
	}
	if got := get("/metrics"); !strings.HasPrefix(got, "200 ") || !strings.Contains(got, "go_goroutines") {
		t.Errorf("got %q, want 200 and the metrics", got)
	}
	if _, err := Listen(ctx, ln.Addr().String()); err == nil || !strings.Contains(err.Error(), "--metrics-addr") {
		t.Errorf("a taken port: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func BenchmarkEmit(b *testing.B) {
	m := New(Options{})
	e := event(tap.ResponseEnd, nil)
	b.ReportAllocs()
	for b.Loop() {
		m.Emit(e)
	}
}

func TestWriteText(t *testing.T) {
	var text strings.Builder
	if err := New(Options{}).WriteText(&text); err != nil || !strings.Contains(text.String(), "\ngo_goroutines ") {
		t.Errorf("%v: %.200s", err, text.String())
	}
	broken := New(Options{Agent: brokenAgent{}})
	if err := broken.WriteText(&text); err == nil || !strings.Contains(err.Error(), "a collector's") {
		t.Errorf("got %v, want an error that names a collector", err)
	}
}

// agent says what a test gives it.
type agent struct {
	stats    Stats
	notReady func() []string // nil: it is ready
}

func (a *agent) Stats() Stats { return a.stats }

func (a *agent) NotReady() []string {
	if a.notReady == nil {
		return nil
	}
	return a.notReady()
}

// brokenAgent panics where a scrape asks it.
type brokenAgent struct{ *agent }

func (brokenAgent) Stats() Stats { panic("a collector's") }
