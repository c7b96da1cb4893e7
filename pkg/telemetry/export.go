package telemetry

import "github.com/prometheus/client_golang/prometheus"

// Exports are the counts of what the agent sends, beside its metrics: spans and lines of
// access logs.
type Exports struct {
	// OTLP counts items by signal (traces, logs) and result: sent, rate, queue-full,
	// failed, rejected.
	OTLP map[string]map[string]uint64
	// AccessLogDropped counts lines of access logs that were dropped, by cause: rate, queue.
	AccessLogDropped map[string]uint64
}

var (
	otlpDesc      = prometheus.NewDesc("underlane_otlp_items_total", "Spans and lines of access logs for the OTLP receiver, by what became of them.", []string{"signal", "result"}, nil)
	accessLogDesc = prometheus.NewDesc("underlane_access_log_dropped_total", "Lines of access logs that were dropped.", []string{"cause"}, nil)
)

// exportCollector exports Exports.
type exportCollector func() Exports

// Exports makes m export the counts that get returns at each scrape.
func (m *Metrics) Exports(get func() Exports) { m.registry.MustRegister(exportCollector(get)) }

func (exportCollector) Describe(out chan<- *prometheus.Desc) {
	out <- otlpDesc
	out <- accessLogDesc
}

func (get exportCollector) Collect(out chan<- prometheus.Metric) {
	all := get()
	for signal, results := range all.OTLP {
		for result, n := range results {
			out <- prometheus.MustNewConstMetric(otlpDesc, prometheus.CounterValue, float64(n), signal, result)
		}
	}
	for cause, n := range all.AccessLogDropped {
		out <- prometheus.MustNewConstMetric(accessLogDesc, prometheus.CounterValue, float64(n), cause)
	}
}
