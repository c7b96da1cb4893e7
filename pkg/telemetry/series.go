package telemetry

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/underlane/underlane/pkg/histogram"
	"github.com/underlane/underlane/pkg/tap"
)

// latencyBuckets are Linkerd's, in milliseconds.
var latencyBuckets = histogram.Linkerd

// requestSeries is one series of request_total.
type requestSeries struct {
	desc  *prometheus.Desc
	total atomic.Uint64
}

func (s *requestSeries) collect(out chan<- prometheus.Metric) { counter(out, s.desc, s.total.Load()) }

// responseSeries is one series each of response_total and response_latency_ms.
type responseSeries struct {
	total, latency *prometheus.Desc
	took           latencies
	exemplars      exemplars
}

func (s *responseSeries) observe(e *tap.Event) {
	s.took.observe(e.Latency)
	s.exemplars.observe(e)
}

func (s *responseSeries) collect(out chan<- prometheus.Metric) {
	m, count := s.took.metric(s.latency)
	out <- s.exemplars.with(m)
	counter(out, s.total, count)
}

func counter(out chan<- prometheus.Metric, desc *prometheus.Desc, value uint64) {
	// A float64 represents integers exactly up to 2^53. Above that the counter
	// starts at zero again, which Prometheus treats as a restart.
	out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value&(1<<53-1)))
}

// desc describes one series. Each series has its own set of labels, so that labels
// without a value can be left out.
func desc(name, help string, labels prometheus.Labels) *prometheus.Desc {
	return prometheus.NewDesc(name, help, nil, labels)
}
