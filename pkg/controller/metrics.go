package controller

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// collector reads a Controller's counters when Prometheus asks.
type collector struct{ c *Controller }

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("underlane_controller_"+name, help, labels, nil)
}

var (
	descAgents       = describe("connected_agents", "Nodes whose agent has a stream.")
	descBehind       = describe("behind_agents", "Streams whose agent lacks something that it should have, or has not answered in time.")
	descVersion      = describe("snapshot_version", "Version of the published state; starts anew with the process.")
	descWorkloads    = describe("workloads", "Pods in the published state.")
	descProblems     = describe("problems", "Things in the objects that cannot be used now.", "kind")
	descFailures     = describe("problems_total", "Problems that have appeared.", "kind")
	descLooks        = describe("looks_total", "How often a stream has looked for what its agent lacks.")
	descDeltas       = describe("deltas_sent_total", "Deltas sent to agents.")
	descResources    = describe("resources_sent_total", "Resources within deltas.")
	descAnswers      = describe("answers_total", "Answers of agents: each is to one delta or several.")
	descNacks        = describe("deltas_refused_total", "Deltas that an agent refused.")
	descChanges      = describe("changes_total", "Objects that were new, changed or gone, and were translated.")
	descPublications = describe("publications_total", "States that were made of such changes.")
	descPublishing   = describe("publishing_seconds_total", "Time that this took: a second per second is as much as one can.")
	descComputed     = describe("values_computed_total", "Values of the translation that were computed.")
	descTaps         = describe("taps", "Taps that run.")
	descTapRefused   = describe("tap_calls_refused_total", "Calls of the tap API that were refused.", "why")
	descHistory      = describe("history_bytes", "Memory of the history of the mesh's traffic.")
	descHistoryEdges = describe("history_edges", "Pairs of workloads in the history, each side's reports for themselves.")
	descLeading      = describe("leading", "1 while this replica is the one that writes.")
	descIssuer       = describe("issuer_expiry_timestamp_seconds", "When the issuer's certificate expires.")
	descStatuses     = describe("pod_statuses_total", "Annotations underlane.io/status written on pods.", "result")
	descRoutes       = describe("route_statuses_total", "Statuses written on routes.", "result")
	descExhausted    = describe("accept_exhausted_total", "Accepts that failed for want of descriptors or memory, and were tried again.")
	descEvicted      = describe("strangers_evicted_total", "Connections without a certificate that were closed because there were too many.")
	descCertificates = describe("certificates_total", "Requests for certificates.", "kind", "result")
)

func (c *Controller) evicted() uint64 {
	if f := c.front.Load(); f != nil {
		return f.Evicted()
	}
	return 0
}

// Describe implements prometheus.Collector.
func (col collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(col, ch) }

// Collect implements prometheus.Collector.
func (col collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	s := col.c.server.Stats()
	objects, objectsTotal := col.c.report.get()
	gauge(descAgents, s.Agents)
	gauge(descBehind, s.Behind)
	gauge(descVersion, int(s.Version))
	gauge(descWorkloads, s.Workloads)
	gauge(descProblems, len(col.c.source.Problems()), col.c.source.Kind())
	gauge(descProblems, len(objects), "object")
	counter(descFailures, col.c.source.Failures(), col.c.source.Kind())
	counter(descFailures, objectsTotal, "object")
	if col.c.writer.Leading() {
		gauge(descLeading, 1)
	} else {
		gauge(descLeading, 0)
	}
	if issuer, ok := col.c.authority.Issuer(); ok {
		gauge(descIssuer, int(issuer.Cert().NotAfter.Unix()))
	}
	writes := col.c.writer.Writes()
	counter(descStatuses, writes.Pods, "written")
	counter(descStatuses, writes.PodsFailed, "failed")
	counter(descRoutes, writes.Routes, "written")
	counter(descRoutes, writes.RoutesFailed, "failed")
	counter(descLooks, s.Looks)
	counter(descDeltas, s.Deltas)
	counter(descResources, s.Resources)
	counter(descAnswers, s.Answers)
	counter(descNacks, s.Nacks)
	w := &col.c.state.work
	counter(descChanges, w.changes.Load())
	counter(descPublications, w.publications.Load())
	counter(descComputed, w.computed.Load())
	ch <- prometheus.MustNewConstMetric(descPublishing, prometheus.CounterValue, time.Duration(w.took.Load()).Seconds())
	counter(descExhausted, col.c.accepts.Exhausted())
	counter(descEvicted, col.c.evicted())
	counter(descCertificates, s.Signed, "workload", "signed")
	counter(descCertificates, s.SignRefused, "workload", "refused")
	counter(descCertificates, s.Bootstrapped, "node", "signed")
	counter(descCertificates, s.BootstrapsRefused, "node", "refused")
	if col.c.tap == nil {
		return
	}
	taps, refused := col.c.tap.Stats()
	gauge(descTaps, int(taps))
	for why, n := range refused {
		counter(descTapRefused, n, why)
	}
	if bytes, edges, ok := col.c.tap.HistoryStats(); ok {
		gauge(descHistory, bytes)
		gauge(descHistoryEdges, edges)
	}
}
