package e2e

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/underlane/underlane/test/lab"
)

// span is a span as a receiver has it.
type span struct {
	trace, id, parent string
	kind              string // client, server
	pod, name         string
}

// spans are the spans that have arrived, by trace.
type spans struct {
	mu      sync.Mutex
	byTrace map[string][]span
	logs    []string // bodies of log records
}

func (s *spans) add(some ...span) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byTrace == nil {
		s.byTrace = map[string][]span{}
	}
	for _, x := range some {
		s.byTrace[x.trace] = append(s.byTrace[x.trace], x)
	}
}

func (s *spans) of(trace string) []span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.byTrace[trace])
}

// receive serves OTLP over gRPC in the test's own process, at a port of a pod, with the
// messages of the protocol's own package.
func receive(t *testing.T, ln net.Listener) *spans {
	t.Helper()
	var got spans
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		var batch tracepb.TracesData
		if err := stream.RecvMsg(&batch); err != nil {
			return err
		}
		for _, r := range batch.GetResourceSpans() {
			pod := ""
			for _, a := range r.GetResource().GetAttributes() {
				if a.GetKey() == "k8s.pod.name" {
					pod = a.GetValue().GetStringValue()
				}
			}
			for _, x := range r.GetScopeSpans()[0].GetSpans() {
				got.add(span{
					trace: hex.EncodeToString(x.GetTraceId()), id: hex.EncodeToString(x.GetSpanId()), parent: hex.EncodeToString(x.GetParentSpanId()),
					kind: kinds[int(x.GetKind())], pod: pod, name: x.GetName(),
				})
			}
		}
		return stream.SendMsg(&emptypb.Empty{})
	}))
	go s.Serve(ln)
	t.Cleanup(s.Stop)
	return &got
}

// kinds are the names of OTLP's numbers.
var kinds = map[int]string{2: "server", 3: "client"}

// collect runs the OpenTelemetry collector in a pod, at the ports of OTLP.
func collect(t *testing.T, l *lab.Lab, pod, program string) *spans {
	t.Helper()
	cmd := l.PodCommand(pod, program, "0.0.0.0:4317", "0.0.0.0:4318")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var got spans
	var reading sync.WaitGroup
	reading.Go(func() {
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			if err := got.line(lines.Bytes()); err != nil {
				t.Errorf("the collector prints %q: %v", lines.Text(), err)
			}
		}
	})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		reading.Wait()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the collector says: %s", said.String())
		}
	})
	return &got
}

// line reads a line of the collector: OTLP in JSON.
func (s *spans) line(text []byte) error {
	type attributes []struct {
		Key   string
		Value struct{ StringValue string }
	}
	var batch struct {
		ResourceSpans []struct {
			Resource   struct{ Attributes attributes }
			ScopeSpans []struct {
				Spans []struct {
					TraceID, SpanID, ParentSpanID, Name string
					Kind                                int
				}
			}
		}
		ResourceLogs []struct {
			ScopeLogs []struct {
				LogRecords []struct{ Body struct{ StringValue string } }
			}
		}
	}
	if err := json.Unmarshal(text, &batch); err != nil {
		return err
	}
	for _, r := range batch.ResourceSpans {
		pod := ""
		for _, a := range r.Resource.Attributes {
			if a.Key == "k8s.pod.name" {
				pod = a.Value.StringValue
			}
		}
		for _, x := range r.ScopeSpans[0].Spans {
			s.add(span{x.TraceID, x.SpanID, x.ParentSpanID, kinds[x.Kind], pod, x.Name})
		}
	}
	for _, r := range batch.ResourceLogs {
		for _, x := range r.ScopeLogs[0].LogRecords {
			s.mu.Lock()
			s.logs = append(s.logs, x.Body.StringValue)
			s.mu.Unlock()
		}
	}
	return nil
}

// tracedPort is where the servers of the test listen in their pods.
const tracedPort = 9090

// traceHeaders are what an application passes on.
var traceHeaders = []string{"traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"}

// app is a server in a pod, which asks the next one before it answers, and passes trace
// headers on. The last one keeps them.
type app struct {
	healthpb.UnimplementedHealthServer
	next    string // address; "": it is the last
	dial    *podDialer
	http    map[int]*http.Client // by the major version of HTTP
	calls   *grpc.ClientConn
	arrived chan map[string]string // headers at the last app
}

func startApp(t *testing.T, l *lab.Lab, pod, next string) *app {
	t.Helper()
	a := &app{next: next, arrived: make(chan map[string]string, 1)}
	if next != "" {
		a.dial = dialFrom(t, l, pod)
		a.http, a.calls = clients(t, a.dial, next)
	}
	calls := grpc.NewServer()
	healthpb.RegisterHealthServer(calls, a)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			calls.ServeHTTP(w, r)
			return
		}
		a.serve(w, r)
	}), Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	ln := listenIn(t, l, pod, tracedPort)
	go server.Serve(ln)
	t.Cleanup(func() { server.Close() })
	return a
}

// clients are those of a pod for one server.
func clients(t *testing.T, d *podDialer, to string) (map[int]*http.Client, *grpc.ClientConn) {
	t.Helper()
	byVersion := map[int]*http.Client{}
	for version := range 2 {
		tr := &http.Transport{DialContext: d.DialContext, Protocols: new(http.Protocols)}
		tr.Protocols.SetHTTP1(version == 0)
		tr.Protocols.SetUnencryptedHTTP2(version == 1)
		t.Cleanup(tr.CloseIdleConnections)
		byVersion[version+1] = &http.Client{Transport: tr, Timeout: patience}
	}
	conn, err := grpc.NewClient("passthrough:///"+to, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return byVersion, conn
}

func (a *app) serve(w http.ResponseWriter, r *http.Request) {
	headers := map[string]string{}
	for _, name := range traceHeaders {
		if v := r.Header.Get(name); v != "" {
			headers[name] = v
		}
	}
	if a.next == "" {
		a.arrived <- headers
		return
	}
	if err := get(r.Context(), a.http[r.ProtoMajor], a.next, headers); err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
}

func get(ctx context.Context, c *http.Client, addr string, headers map[string]string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/vote?choice=pizza", nil)
	if err != nil {
		return err
	}
	for name, v := range headers {
		r.Header.Set(name, v)
	}
	resp, err := c.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return err
}

// Check implements the health service, as the call that is made.
func (a *app) Check(ctx context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	headers := map[string]string{}
	in, _ := metadata.FromIncomingContext(ctx)
	for _, name := range traceHeaders {
		if v := in.Get(name); len(v) > 0 {
			headers[name] = v[0]
		}
	}
	if a.next == "" {
		a.arrived <- headers
		return &healthpb.HealthCheckResponse{}, nil
	}
	return check(ctx, a.calls, headers)
}

func check(ctx context.Context, c *grpc.ClientConn, headers map[string]string) (*healthpb.HealthCheckResponse, error) {
	return healthpb.NewHealthClient(c).Check(metadata.NewOutgoingContext(ctx, metadata.New(headers)), &healthpb.HealthCheckRequest{})
}

// collectorAddr is that of the first pod on node-1: the agents start before there are pods.
const collectorAddr = "10.77.1.2"

// upTraced starts a lab whose agents send spans to the pod "collector".
func upTraced(t *testing.T, agentArgs ...string) *lab.Lab {
	t.Helper()
	collector := clientPod("collector", node1)
	collector.Labels = nil
	voting := clientPod("voting", node1)
	voting.Annotations = map[string]string{"underlane.io/access-log": "json"}
	l := lab.Up(t, lab.Options{AgentArgs: append([]string{"--trace-sampling=100%"}, agentArgs...)}, manifests(
		collector, clientPod("client", node1), clientPod("near", node1), clientPod("far", node2), voting))
	if got, want := l.Pod("collector").IP(), netip.MustParseAddr(collectorAddr); got != want {
		t.Fatalf("the pod collector has the address %v, want %v", got, want)
	}
	waitEnrolled(t, l, "default/client", "default/near", "default/far", "default/voting")
	return l
}

// TestTracing makes a call that goes on to another pod, within a node and between two, in all
// protocols and formats of headers: its spans form one tree.
func TestTracing(t *testing.T) {
	t.Parallel()
	l := upTraced(t, "--otlp-endpoint=grpc://"+collectorAddr)
	got := receive(t, listenIn(t, l, "collector", 4317))
	checkTrees(t, l, got)
	l.Eventually(patience, func() error { return checkLog(strings.Split(l.Logs(node1), "\n")) })
}

// TestFullCollector is TestTracing with the OpenTelemetry collector as the receiver, over
// gRPC and over HTTP.
func TestFullCollector(t *testing.T) {
	program := filepath.Join(t.TempDir(), "collector")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = "../tracing/collector"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the collector: %v\n%s", err, out)
	}
	for _, endpoint := range []string{"grpc://" + collectorAddr, "http://" + collectorAddr} {
		t.Run(endpoint[:4], func(t *testing.T) {
			l := upTraced(t, "--otlp-endpoint="+endpoint, "--access-log-to=otlp")
			got := collect(t, l, "collector", program)
			checkTrees(t, l, got)
			l.Eventually(patience, func() error {
				got.mu.Lock()
				defer got.mu.Unlock()
				return checkLog(got.logs)
			})
		})
	}
}

// checkLog looks for the line of a request to the pod voting.
func checkLog(lines []string) error {
	for _, line := range lines {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) != nil || fields["pod"] != "voting" {
			continue
		}
		if fields["uri"] == "/vote?choice=pizza" && fields["status"] == 200.0 && fields["client.id"] == "spiffe://cluster.local/ns/default/sa/default" && fields["trace_id"] != nil {
			return nil
		}
	}
	return fmt.Errorf("the access log has no line of the request to voting: %q", lines)
}

const (
	callerTrace = "0af7651916cd43dd8448eb211c80319c"
	callerSpan  = "b7ad6b7169203331"
)

func checkTrees(t *testing.T, l *lab.Lab, got *spans) {
	t.Helper()
	last := startApp(t, l, "voting", "")
	voting := addrPort(l.Pod("voting").IP(), tracedPort)
	var trees []tree
	for _, web := range []string{"near", "far"} {
		startApp(t, l, web, voting)
		d := dialFrom(t, l, "client")
		addr := addrPort(l.Pod(web).IP(), tracedPort)
		byVersion, calls := clients(t, d, addr)
		for protocol, send := range map[string]func(headers map[string]string) error{
			"HTTP/1": func(h map[string]string) error { return get(t.Context(), byVersion[1], addr, h) },
			"HTTP/2": func(h map[string]string) error { return get(t.Context(), byVersion[2], addr, h) },
			"gRPC":   func(h map[string]string) error { _, err := check(t.Context(), calls, h); return err },
		} {
			for i, headers := range []map[string]string{
				nil,
				{"traceparent": "00-" + callerTrace + "-" + callerSpan + "-01", "tracestate": "a=1"},
				{"b3": callerTrace + "-" + callerSpan + "-1"},
				{"x-b3-traceid": callerTrace, "x-b3-spanid": callerSpan, "x-b3-sampled": "1"},
			} {
				trace := ""
				if headers != nil { // a trace of its own for each
					trace = fmt.Sprintf("%032x", time.Now().UnixNano())
					for name, v := range headers {
						headers[name] = strings.Replace(v, callerTrace, trace, 1)
					}
				}
				name := fmt.Sprintf("%s/%s/%d", web, protocol, i)
				if err := send(headers); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				trees = append(trees, tree{name, web, protocol, headers, <-last.arrived, trace})
			}
		}
	}
	for _, c := range trees { // spans come after a second
		t.Run(c.name, func(t *testing.T) { c.check(t, l, got) })
	}
}

// tree is a call that has gone on to another pod.
type tree struct {
	name, web, protocol string
	headers             map[string]string // those that the caller sent; nil: none
	arrived             map[string]string // those that the last server got
	trace               string            // "": it begins in the mesh
}

// check checks the spans of the call: the client's and the server's of each of its two
// requests, each the parent of the next.
func (c *tree) check(t *testing.T, l *lab.Lab, got *spans) {
	t.Helper()
	web, protocol, headers, trace, arrived := c.web, c.protocol, c.headers, c.trace, c.arrived
	var last string // the span that the last server got
	switch {
	case arrived["traceparent"] != "":
		parts := strings.Split(arrived["traceparent"], "-")
		trace, last = parts[1], parts[2]
	case arrived["b3"] != "":
		last = strings.Split(arrived["b3"], "-")[1]
	default:
		last = arrived["x-b3-spanid"]
	}
	if headers != nil {
		for name := range headers {
			if arrived[name] == "" {
				t.Errorf("the last server gets %v, want the format of %v", arrived, headers)
			}
		}
		if arrived["tracestate"] != headers["tracestate"] || arrived["traceparent"] != "" != (headers["traceparent"] != "") {
			t.Errorf("the last server gets %v, the client sends %v: want the same format and tracestate", arrived, headers)
		}
	}
	var all []span
	l.Eventually(patience, func() error {
		if all = got.of(trace); len(all) < 4 {
			return fmt.Errorf("trace %s has the spans %+v, want 4", trace, all)
		}
		return nil
	})
	name := "GET"
	if protocol == "gRPC" {
		name = "grpc.health.v1.Health/Check"
	}
	parent := ""
	if headers != nil {
		parent = callerSpan
	}
	var chain, want []span
	for _, s := range []span{{kind: "client", pod: "client"}, {kind: "server", pod: web}, {kind: "client", pod: web}, {kind: "server", pod: "voting"}} {
		i := slices.IndexFunc(all, func(x span) bool { return x.parent == parent })
		if i < 0 {
			t.Fatalf("no span has the parent %q: %+v", parent, all)
		}
		s.trace, s.id, s.parent, s.name = trace, all[i].id, parent, name
		chain, want = append(chain, all[i]), append(want, s)
		parent = all[i].id
	}
	if diff := cmp.Diff(want, chain, cmp.AllowUnexported(span{})); diff != "" || len(all) != 4 {
		t.Errorf("%d spans, want 4 (-want +got):\n%s", len(all), diff)
	}
	if parent != last {
		t.Errorf("the last server gets the span %q, want %q, that of its side", last, parent)
	}
}
