package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
)

// agentCollector gives what the agent itself knows, asked at each scrape.
type agentCollector struct{ m *Metrics }

var (
	ringbufLostDesc  = prometheus.NewDesc("underlane_ringbuf_lost_total", "Kernel events lost because the ring buffer was full.", nil, nil)
	kernelEventsDesc = prometheus.NewDesc("underlane_kernel_events_total", "Kernel-side failures by reason.", []string{"reason"}, nil)
	podsDesc         = prometheus.NewDesc("underlane_pods", "Pods of this node by state.", []string{"state"}, nil)
	certExpiryDesc   = prometheus.NewDesc("identity_cert_expiration_timestamp_seconds", "When the certificate of an identity expires, Unix time.", []string{"identity"}, nil)
	tapLostDesc      = prometheus.NewDesc("underlane_tap_lost_total", "Events that slow readers of tap and top missed.", nil, nil)
	fallbackDesc     = prometheus.NewDesc("underlane_plaintext_fallback_total", "Connections sent in plaintext because the peer's agent did not answer.", nil, nil)
	budgetDesc       = prometheus.NewDesc("underlane_retries_refused_total", "Retries that a route asked for and the Service's budget did not allow.", nil, nil)
	mirrorsDesc      = prometheus.NewDesc("underlane_mirrors_dropped_total", "Copies of requests that were not made, or not answered.", nil, nil)
	limitsDesc       = prometheus.NewDesc("underlane_limit_hits_total", "Connections and requests refused because a limit of the proxy was reached.", []string{"limit"}, nil)
	exhaustedDesc    = prometheus.NewDesc("underlane_accept_exhausted_total", "Accepts that failed for want of descriptors or memory, and were tried again.", nil, nil)
	panicsDesc       = prometheus.NewDesc("underlane_connection_panics_total", "Connections cut because serving them panicked.", nil, nil)
	sandboxesDesc    = prometheus.NewDesc("underlane_sandboxes_total", "Pods that the container runtime told of before they started, by what became of them.", []string{"outcome"}, nil)
	repairsDesc      = prometheus.NewDesc("underlane_repairs_total", "Attached programs and map entries that somebody else had changed, put right.", nil, nil)
	overflowDesc     = prometheus.NewDesc("underlane_metrics_overflow_total", "New series over the limit: folded into authority=other, or dropped.", []string{"outcome"}, nil)
)

// Describe implements prometheus.Collector.
func (agentCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		ringbufLostDesc, kernelEventsDesc, podsDesc, certExpiryDesc, tapLostDesc, fallbackDesc, budgetDesc, mirrorsDesc, limitsDesc, exhaustedDesc, panicsDesc, sandboxesDesc, repairsDesc, overflowDesc,
		ejectionsDesc, endpointsDesc,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c agentCollector) Collect(out chan<- prometheus.Metric) {
	o := &c.m.options
	for d, f := range map[*prometheus.Desc]func() uint64{
		ringbufLostDesc: o.RingbufLost, tapLostDesc: o.TapLost, fallbackDesc: o.PlaintextFallbacks,
		budgetDesc: o.RetriesRefused, mirrorsDesc: o.MirrorsDropped,
		exhaustedDesc: o.AcceptsExhausted, panicsDesc: o.ConnectionPanics, repairsDesc: o.Repairs,
	} {
		if f != nil {
			counter(out, d, f())
		}
	}
	if o.KernelEvents != nil {
		for reason, n := range o.KernelEvents() {
			out <- prometheus.MustNewConstMetric(kernelEventsDesc, prometheus.CounterValue, float64(n), reason)
		}
	}
	if o.LimitHits != nil {
		for limit, n := range o.LimitHits() {
			out <- prometheus.MustNewConstMetric(limitsDesc, prometheus.CounterValue, float64(n), limit)
		}
	}
	if o.Sandboxes != nil {
		for outcome, n := range o.Sandboxes() {
			out <- prometheus.MustNewConstMetric(sandboxesDesc, prometheus.CounterValue, float64(n), outcome)
		}
	}
	if o.Pods != nil {
		for state, n := range o.Pods() {
			out <- prometheus.MustNewConstMetric(podsDesc, prometheus.GaugeValue, float64(n), state)
		}
	}
	if o.CertificateExpiry != nil {
		for id, at := range o.CertificateExpiry() {
			out <- prometheus.MustNewConstMetric(certExpiryDesc, prometheus.GaugeValue, float64(at.Unix()), id.String())
		}
	}
	c.collectEndpoints(out)
	folded, dropped := c.m.overflow()
	out <- prometheus.MustNewConstMetric(overflowDesc, prometheus.CounterValue, float64(folded), "folded")
	out <- prometheus.MustNewConstMetric(overflowDesc, prometheus.CounterValue, float64(dropped), "dropped")
}
