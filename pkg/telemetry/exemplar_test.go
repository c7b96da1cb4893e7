package telemetry

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tracing"
)

// expose returns the metrics in the format that accept names.
func expose(m *Metrics, accept string) string {
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, r)
	return w.Body.String()
}

// TestExemplars: buckets of the latency name the last sampled request in them, in the
// OpenMetrics exposition only.
func TestExemplars(t *testing.T) {
	m := New(Options{})
	end := tap.Event{Kind: tap.ResponseEnd, Direction: mesh.Outbound, Time: time.Unix(4e9, 0), Protocol: "http1", Status: 200, Latency: 3500 * time.Microsecond}
	sampled := func(id byte, latency time.Duration) {
		e := end
		e.Latency = latency
		e.Trace = &tracing.Trace{ID: tracing.ID{id}, Span: tracing.SpanID{id}}
		m.Emit(&e)
	}
	m.Emit(&end)
	const openMetrics = "application/openmetrics-text;version=1.0.0"
	if got := expose(m, openMetrics); strings.Contains(got, "trace_id") {
		t.Errorf("without a sampled request there is an exemplar:\n%s", got)
	}
	sampled(1, 3700*time.Microsecond)
	sampled(2, 3600*time.Microsecond)
	sampled(3, time.Hour)
	got := expose(m, openMetrics)
	for _, want := range []string{
		`le="4.0"} 3 # {[^}]*trace_id="02000000000000000000000000000000"[^}]*} 3.6 4e\+09`,
		`le="\+Inf"} 4 # {[^}]*span_id="0300000000000000"[^}]*} 3.6e\+06 4e\+09`,
	} { // the order of the labels is random
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("the metrics do not have %s:\n%s", want, latencyLines(got))
		}
	}
	if n := strings.Count(got, "trace_id"); n != 2 {
		t.Errorf("%d exemplars, want 2:\n%s", n, latencyLines(got))
	}
	if got := expose(m, "text/plain"); strings.Contains(got, "trace_id") || !strings.Contains(got, "response_latency_ms_bucket") {
		t.Errorf("the text format has exemplars, or no latency:\n%s", latencyLines(got))
	}
}

func latencyLines(all string) string {
	var out []string
	for line := range strings.SplitSeq(all, "\n") {
		if strings.Contains(line, "response_latency_ms") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

func TestExports(t *testing.T) {
	m := New(Options{})
	m.Exports(func() Exports {
		return Exports{
			OTLP:             map[string]map[string]uint64{"traces": {"sent": 1, "queue-full": 2}},
			AccessLogDropped: map[string]uint64{"rate": 3},
		}
	})
	got := expose(m, "text/plain")
	for _, want := range []string{
		`underlane_otlp_items_total{result="sent",signal="traces"} 1`,
		`underlane_otlp_items_total{result="queue-full",signal="traces"} 2`,
		`underlane_access_log_dropped_total{cause="rate"} 3`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("the metrics do not have %s", want)
		}
	}
}
