package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/underlane/underlane/pkg/tap"
)

// latencyBuckets are Linkerd's, in milliseconds.
var latencyBuckets = [...]float64{
	1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500,
	1000, 2000, 3000, 4000, 5000, 10000, 20000, 30000, 40000, 50000,
}

// requestSeries is one series of request_total.
type requestSeries struct {
	desc  *prometheus.Desc
	total atomic.Uint64
}

func (s *requestSeries) collect(out chan<- prometheus.Metric) { counter(out, s.desc, s.total.Load()) }

// responseSeries is one series each of response_total and response_latency_ms.
type responseSeries struct {
	total, latency *prometheus.Desc
	took           histogram
}

func (s *responseSeries) observe(latency time.Duration) { s.took.observe(latency) }

func (s *responseSeries) collect(out chan<- prometheus.Metric) {
	counter(out, s.total, s.took.collect(out, s.latency))
}

// connSeries has the tcp_… series of one target. Linkerd counts a connection at
// both peers: the bytes that one peer reads are those that the other writes.
type connSeries struct {
	src, dst    connDescs
	opened      atomic.Uint64
	open        atomic.Int64
	read, wrote atomic.Uint64 // bytes read from the source and written to it
}

type connDescs struct{ opened, open, read, wrote *prometheus.Desc }

// close counts the end of one connection. The gauge does not go below zero, because
// a connection may have been open before the agent started.
func (s *connSeries) close() {
	for {
		n := s.open.Load()
		if n <= 0 || s.open.CompareAndSwap(n, n-1) {
			return
		}
	}
}

// carry counts the bytes of one connection that were not counted before.
func (s *connSeries) carry(e *tap.Event) {
	s.read.Add(e.ReadBytes - min(e.Counted.ReadBytes, e.ReadBytes))
	s.wrote.Add(e.WriteBytes - min(e.Counted.WriteBytes, e.WriteBytes))
}

func (s *connSeries) idle() bool { return s.open.Load() == 0 }

func (s *connSeries) collect(out chan<- prometheus.Metric) {
	opened, open, read, wrote := s.opened.Load(), s.open.Load(), s.read.Load(), s.wrote.Load()
	for _, d := range []connDescs{s.src, s.dst} {
		counter(out, d.opened, opened)
		out <- prometheus.MustNewConstMetric(d.open, prometheus.GaugeValue, float64(open))
		counter(out, d.read, read)
		counter(out, d.wrote, wrote)
		read, wrote = wrote, read
	}
}

// closeSeries holds the series of tcp_close_total of both peers.
type closeSeries struct {
	src, dst *prometheus.Desc
	total    atomic.Uint64
}

func (s *closeSeries) collect(out chan<- prometheus.Metric) {
	counter(out, s.src, s.total.Load())
	counter(out, s.dst, s.total.Load())
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

// withPeer returns a copy of labels with Linkerd's peer=src or peer=dst.
func withPeer(labels prometheus.Labels, peer string) prometheus.Labels {
	l := make(prometheus.Labels, len(labels)+1)
	for k, v := range labels {
		l[k] = v
	}
	l["peer"] = peer
	return l
}
