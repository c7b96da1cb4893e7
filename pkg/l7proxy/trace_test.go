package l7proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// loopSampling is the sampling of the loops that measure allocations. nil: tracing is off.
var loopSampling *mesh.TraceSampling

// TestNotSampledAllocations: tracing that samples no request adds no allocation.
func TestNotSampledAllocations(t *testing.T) {
	loopSampling = &mesh.TraceSampling{}
	defer func() { loopSampling = nil }()
	t.Run("HTTP/1", func(t *testing.T) { testH1Allocations(t, 0, h1Loop(t)) })
	t.Run("HTTP/2", func(t *testing.T) { testH2Allocations(t, h2Loop(t, false)) })
}

// BenchmarkH1NotSampled is BenchmarkH1Request with tracing that samples no request.
func BenchmarkH1NotSampled(b *testing.B) {
	loopSampling = &mesh.TraceSampling{}
	defer func() { loopSampling = nil }()
	exchange := h1Loop(b)
	exchange()
	b.ReportAllocs()
	for b.Loop() {
		exchange()
	}
}

// traced is a server that keeps the headers of its requests, behind a proxy.
type traced struct {
	*shop
	seen   chan http.Header
	client *http.Client
	answer http.HandlerFunc // nil: 200
}

func newTraced(t *testing.T, http2 bool) *traced {
	e := &traced{shop: newShop(t), seen: make(chan http.Header, 16)}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.seen <- r.Header
		if e.answer != nil {
			e.answer(w, r)
		}
	}))
	var both, one http.Protocols
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	one.SetHTTP1(!http2)
	one.SetUnencryptedHTTP2(http2)
	server.Config.Protocols = &both
	server.Start()
	t.Cleanup(server.Close)
	e.service("apex", server.Listener.Addr().String())
	transport := &http.Transport{Protocols: &one}
	t.Cleanup(transport.CloseIdleConnections)
	e.client = &http.Client{Transport: transport}
	return e
}

// get makes a request with these lines as headers, and returns those with a trace context
// that the server sees, sorted.
func (e *traced) get(path string, lines ...string) []string {
	e.t.Helper()
	r, err := http.NewRequest("GET", "http://"+e.to(e.services["apex"].String())+path, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	resp, err := e.client.Do(r)
	if err != nil {
		e.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return contextOf(<-e.seen)
}

func contextOf(h http.Header) (out []string) {
	for name, values := range h {
		if name := strings.ToLower(name); strings.HasPrefix(name, "trace") || strings.Contains(name, "b3") {
			for _, v := range values {
				out = append(out, name+": "+v)
			}
		}
	}
	slices.Sort(out)
	return out
}

const (
	traceID  = "0af7651916cd43dd8448eb211c80319c"
	callerID = "b7ad6b7169203331"
)

// TestTraceHeaders says what the server sees of a trace context, in both protocols.
func TestTraceHeaders(t *testing.T) {
	w3c := []string{"traceparent: 00-" + traceID + "-" + callerID + "-01", "tracestate: a=1"}
	refused := []string{"traceparent: 00-" + traceID + "-" + callerID + "-00", "tracestate: a=1"}
	multi := []string{"x-b3-sampled: 1", "x-b3-spanid: " + callerID, "x-b3-traceid: " + traceID}
	wrong := []string{"b3: \t<script>", "traceparent: 00-x", "tracestate: a=1"}
	always, parents, off := &mesh.TraceSampling{PerMillion: 1_000_000}, &mesh.TraceSampling{}, &mesh.TraceSampling{Off: true}
	for name, tc := range map[string]struct {
		agent, pod *mesh.TraceSampling
		in, want   []string // SPAN stands for the span that tap has, TRACE for its trace
	}{
		"tracing is off":              {nil, always, w3c, w3c},
		"off for the pod":             {always, off, w3c, w3c},
		"the caller samples":          {parents, nil, w3c, []string{"traceparent: 00-" + traceID + "-SPAN-01", "tracestate: a=1"}},
		"the caller does not":         {always, nil, refused, refused},
		"nothing, parent":             {parents, nil, nil, nil},
		"nothing, always":             {always, nil, nil, []string{"traceparent: 00-TRACE-SPAN-01"}},
		"nothing, the pod's rate":     {parents, always, nil, []string{"traceparent: 00-TRACE-SPAN-01"}},
		"several headers":             {parents, nil, multi, []string{"x-b3-parentspanid: " + callerID, "x-b3-sampled: 1", "x-b3-spanid: SPAN", "x-b3-traceid: " + traceID}},
		"wrong headers, not sampled":  {parents, nil, wrong, wrong},
		"wrong headers are not taken": {always, nil, wrong, []string{"traceparent: 00-TRACE-SPAN-01"}},
	} {
		for protocol, http2 := range map[string]bool{"HTTP/1": false, "HTTP/2": true} {
			t.Run(name+"/"+protocol, func(t *testing.T) {
				e := newTraced(t, http2)
				e.proxy.core.Sampling, e.local.Settings.TraceSampling = tc.agent, tc.pod
				got := e.get("/", tc.in...)
				end := e.tap.Wait(t, tap.ResponseEnd, 0)
				var want []string
				for _, line := range tc.want {
					if name, value, _ := strings.Cut(line, ": "); strings.HasPrefix(value, "\t") {
						line = name + ": " + strings.TrimSpace(value)
					}
					if strings.Contains(line, "SPAN") {
						if end.Trace == nil {
							t.Fatalf("the event has no trace; the server sees %q, want %q", got, tc.want)
						}
						line = strings.NewReplacer("SPAN", end.Trace.Span.String(), "TRACE", end.Trace.ID.String()).Replace(line)
					}
					want = append(want, line)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("the server sees (-want +got):\n%s", diff)
				}
				if sampled := !slices.Equal(tc.in, tc.want); sampled != (end.Trace != nil) {
					t.Errorf("the event's trace is %+v, want one: %v", end.Trace, sampled)
				}
			})
		}
	}
}

// TestTraceOfRetries: all attempts have the same context, and a route that sets a trace
// header makes it no second one.
func TestTraceOfRetries(t *testing.T) {
	for protocol, http2 := range map[string]bool{"HTTP/1": false, "HTTP/2": true} {
		t.Run(protocol, func(t *testing.T) {
			e := newTraced(t, http2)
			e.proxy.core.Sampling = &mesh.TraceSampling{PerMillion: 1_000_000}
			rule := mesh.RouteRule{Backends: []mesh.RouteBackend{to("apex", 1)}, Retry: &mesh.RouteRetry{Codes: []uint16{503}, Attempts: 1}}
			rule.Filters.RequestHeaders = &mesh.HeaderModifier{Set: []mesh.HeaderField{{Name: "Traceparent", Value: "x"}, {Name: "x-other", Value: "y"}}}
			e.route(rule)
			e.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
			first := e.get("/")
			second := <-e.seen
			end := e.tap.Wait(t, tap.ResponseEnd, 0)
			if end.Trace == nil || end.Retries != 1 || end.Route == nil {
				t.Fatalf("the event has trace %+v, %d retries and route %v, want a trace, 1 and a route", end.Trace, end.Retries, end.Route)
			}
			want := []string{"traceparent: 00-" + end.Trace.ID.String() + "-" + end.Trace.Span.String() + "-01"}
			if diff := cmp.Diff([][]string{want, want}, [][]string{first, contextOf(second)}); diff != "" {
				t.Errorf("the attempts have (-want +got):\n%s", diff)
			}
			attempts := end.Trace.Attempts
			if len(attempts) != 2 {
				t.Fatalf("%d attempts, want 2: %+v", len(attempts), attempts)
			}
			for i, a := range attempts {
				if a.Number != i || a.Status != http.StatusServiceUnavailable || a.Reason != mesh.ReasonNone || a.GRPCStatus != -1 || a.Endpoint != end.Destination.Addr ||
					a.Began < 0 || a.Ended <= a.Began || a.Ended > end.Duration || i > 0 && a.Began < attempts[i-1].Ended {
					t.Errorf("attempt %d is %+v, want one to %v with status 503 within the %v of the request", i, a, end.Destination.Addr, end.Duration)
				}
			}
			if got := second.Get("x-other"); got != "y" {
				t.Errorf("the route's other header is %q, want y", got)
			}
		})
	}
}

// TestTraceOfOneAttempt: a request that is sent once has no list of attempts.
func TestTraceOfOneAttempt(t *testing.T) {
	for protocol, http2 := range protocolsOfHTTP {
		t.Run(protocol, func(t *testing.T) {
			e := newTraced(t, http2)
			e.proxy.core.Sampling = &mesh.TraceSampling{PerMillion: 1_000_000}
			e.get("/")
			if end := e.tap.Wait(t, tap.ResponseEnd, 0); end.Trace == nil || end.Trace.Attempts != nil {
				t.Errorf("the event has trace %+v, want one without attempts", end.Trace)
			}
		})
	}
}

// TestHeads: the event has what access logs need, bounded, if one wants it, and nothing
// otherwise.
func TestHeads(t *testing.T) {
	for protocol, http2 := range map[string]bool{"1.1": false, "2": true} {
		t.Run(protocol, func(t *testing.T) {
			e := newTraced(t, http2)
			logged := false
			e.proxy.core.Logged = func() bool { return logged }
			e.get("/", "User-Agent: a")
			if end := e.tap.Wait(t, tap.ResponseEnd, 0); end.Head != nil {
				t.Errorf("without an access log the event has %+v", end.Head)
			}
			logged = true
			long := strings.Repeat("x", 5000)
			e.get("/", "User-Agent: a", "Referer: "+long)
			want := &tap.Head{Version: protocol, UserAgent: "a", Referer: long[:tap.MaxHeadValue]}
			if diff := cmp.Diff(want, e.tap.Wait(t, tap.ResponseEnd, 1).Head); diff != "" {
				t.Errorf("the event has (-want +got):\n%s", diff)
			}
		})
	}
}
