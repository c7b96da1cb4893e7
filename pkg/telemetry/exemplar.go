package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tracing"
)

// exemplars has, for each bucket of response_latency_ms, the last sampled request that was
// counted there: a dashboard leads from a bucket to its trace. They are exported in the
// OpenMetrics exposition only, because the other text format has none. The zero value has
// none.
type exemplars struct {
	// buckets is nil until a request is sampled: most series have no exemplar.
	buckets atomic.Pointer[[len(latencyBuckets) + 1]atomic.Pointer[exemplar]]
}

type exemplar struct {
	trace *tracing.Trace
	ms    float64
	at    time.Time
}

// observe records the request of e, if it is sampled.
func (x *exemplars) observe(e *tap.Event) {
	if e.Trace == nil {
		return
	}
	buckets := x.buckets.Load()
	if buckets == nil {
		x.buckets.CompareAndSwap(nil, new([len(latencyBuckets) + 1]atomic.Pointer[exemplar]))
		buckets = x.buckets.Load()
	}
	ms := float64(e.Latency) / float64(time.Millisecond)
	i := 0
	for i < len(latencyBuckets) && ms > latencyBuckets[i] {
		i++
	}
	buckets[i].Store(&exemplar{trace: e.Trace, ms: ms, at: e.Time})
}

// with returns the histogram m with the exemplars.
func (x *exemplars) with(m prometheus.Metric) prometheus.Metric {
	buckets := x.buckets.Load()
	if buckets == nil {
		return m
	}
	var all []prometheus.Exemplar
	for i := range buckets {
		if e := buckets[i].Load(); e != nil {
			all = append(all, prometheus.Exemplar{
				Value: e.ms, Timestamp: e.at,
				Labels: prometheus.Labels{"trace_id": e.trace.ID.String(), "span_id": e.trace.Span.String()},
			})
		}
	}
	out, err := prometheus.NewMetricWithExemplars(m, all...)
	if err != nil {
		return m // the histogram is of more worth
	}
	return out
}
