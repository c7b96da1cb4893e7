package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/underlane/underlane/pkg/histogram"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// routed identifies the series of the route_… families: a client's requests to a
// service, by the rule that they matched.
type routed struct {
	own                       owner
	service, serviceNamespace string
	kind, namespace, name     string // of the route
	rule                      string
}

func routedOf(e *tap.Event) routed {
	r := routed{
		own:  ownerOf(e.Source.Workload),
		kind: e.Route.Kind, namespace: e.Route.Namespace, name: e.Route.Name, rule: e.Rule,
	}
	if e.Service != nil {
		r.service, r.serviceNamespace = e.Service.Name, e.Service.Namespace
	}
	return r
}

// fold returns r unchanged. Clients cannot create new route labels, so the number
// of configured routes already bounds these series.
func (r routed) fold() routed { return r }

func (r routed) labels() prometheus.Labels {
	l := prometheus.Labels{"direction": mesh.Outbound.String()}
	r.own.labels(l, "")
	set(l, "dst_service", r.service)
	set(l, "dst_namespace", r.serviceNamespace)
	set(l, "rt_kind", r.kind)
	set(l, "rt_route_ns", r.namespace)
	set(l, "rt_route", r.name)
	set(l, "rt_rule", r.rule)
	return l
}

// routeSeries has the counters of one rule: the requests as the client sees them
// (effective), and the attempts that they took (actual).
type routeSeries struct {
	responses, attempts [2]*prometheus.Desc // failure, success
	retries             *prometheus.Desc
	latency             *prometheus.Desc

	ended, made [2]atomic.Uint64
	retried     atomic.Uint64
	took        latencies
}

func newRouteSeries(r routed) *routeSeries {
	s := new(routeSeries)
	for i := range s.responses {
		l := r.labels()
		l["classification"] = classification(i == 1)
		s.responses[i] = desc("route_response_total", "Responses to requests that a route had a say in, as their clients see them.", l)
		s.attempts[i] = desc("route_actual_response_total", "Attempts at such requests, retries among them.", l)
	}
	s.retries = desc("route_retry_total", "Retries that a route asked for.", r.labels())
	s.latency = desc("route_response_latency_ms", "Time from such a request's head to its response's head, retries included, in milliseconds.", r.labels())
	return s
}

// observe counts the end of a request.
func (s *routeSeries) observe(e *tap.Event) {
	success := 0
	if e.Success() {
		success = 1
	}
	s.ended[success].Add(1)
	s.made[success].Add(1)
	s.made[0].Add(uint64(e.Retries)) // each retry follows an attempt that failed
	s.retried.Add(uint64(e.Retries))
	s.took.observe(e.Latency)
}

func (s *routeSeries) collect(out chan<- prometheus.Metric) {
	for i := range s.ended {
		counter(out, s.responses[i], s.ended[i].Load())
		counter(out, s.attempts[i], s.made[i].Load())
	}
	counter(out, s.retries, s.retried.Load())
	s.took.collect(out, s.latency)
}

// latencies counts latencies, and exports them in Linkerd's buckets.
type latencies struct {
	counts    histogram.Histogram
	sumMicros atomic.Uint64
}

func (l *latencies) observe(latency time.Duration) {
	l.counts.Observe(latency)
	l.sumMicros.Add(uint64(max(0, latency.Microseconds())))
}

// collect exports the buckets and returns the number of latencies.
func (l *latencies) collect(out chan<- prometheus.Metric, desc *prometheus.Desc) (count uint64) {
	m, count := l.metric(desc)
	out <- m
	return count
}

// metric returns the buckets and the number of latencies.
func (l *latencies) metric(desc *prometheus.Desc) (m prometheus.Metric, count uint64) {
	var below [len(latencyBuckets)]uint64
	count = l.counts.Cumulative(&below)
	cumulative := make(map[float64]uint64, len(below))
	for i, bound := range latencyBuckets {
		cumulative[bound] = below[i]
	}
	return prometheus.MustNewConstHistogram(desc, count, float64(l.sumMicros.Load())/1000, cumulative), count
}
