// Package telemetry turns tap events into Prometheus metrics with Linkerd's names
// and labels, so that dashboards made for Linkerd work. It serves the metrics and
// the agent's health over HTTP.
package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

const (
	// DefaultMaxSeries is the default limit on the series of each family of metrics.
	DefaultMaxSeries = 5000
	// idleAfter is how long a series stays without an event, as in Linkerd.
	idleAfter = 10 * time.Minute
)

// Options configure Metrics. All fields may be zero.
type Options struct {
	ClusterDomain string // for the authority label; default cluster.local
	MaxSeries     int    // limit of each family, above which authorities become "other"; default DefaultMaxSeries
	MaxPods       int    // pods that have metrics of their own (underlane_pod_…); 0: none
	Agent         Agent  // nil: only metrics from events, and always ready
}

// Metrics is a tap.Sink and a prometheus.Collector of the events that it received.
// Handler serves its metrics and the agent's health.
type Metrics struct {
	options  Options
	registry *prometheus.Registry

	requests  *table[target, requestSeries]
	responses *table[response, responseSeries]
	conns     [numPeers]*table[target, connSeries]
	closes    [numPeers]*table[closing, closeSeries]
	routes    *table[routed, routeSeries]
	pods      podBudget
}

// New returns Metrics with a registry of its own, which also has the metrics of the
// Go runtime and of the process.
func New(o Options) *Metrics {
	if o.ClusterDomain == "" {
		o.ClusterDomain = mesh.DefaultClusterDomain
	}
	if o.MaxSeries <= 0 {
		o.MaxSeries = DefaultMaxSeries
	}
	m := &Metrics{options: o, registry: prometheus.NewRegistry(), pods: podBudget{most: o.MaxPods}}
	m.requests = newTable(o.MaxSeries, target.fold, func(t target) *requestSeries {
		return &requestSeries{desc: desc("request_total", "Requests.", t.labels(o.ClusterDomain))}
	})
	m.responses = newTable(o.MaxSeries, response.fold, func(r response) *responseSeries {
		labels := r.labels(o.ClusterDomain)
		return &responseSeries{
			total:   desc("response_total", "Responses that ended.", labels),
			latency: desc("response_latency_ms", "Time from a request's head to its response's head, in milliseconds.", labels),
		}
	})
	for p := range m.conns {
		m.conns[p] = newTable(o.MaxSeries, target.fold, func(t target) *connSeries {
			return newConnSeries(t.labels(o.ClusterDomain), peer(p))
		})
		m.closes[p] = newTable(o.MaxSeries, closing.fold, func(c closing) *closeSeries {
			labels := withPeer(c.labels(o.ClusterDomain), peer(p))
			return &closeSeries{desc: desc("tcp_close_total", "Connections that closed, and attempts that failed.", labels)}
		})
	}
	m.routes = newTable(o.MaxSeries, routed.fold, newRouteSeries)
	m.registry.MustRegister(m, agentCollector{m},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Registry returns the registry, where the caller may register further collectors.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Emit implements tap.Sink. It allocates nothing for an event whose series exists.
// A series is dropped some time after the last Event.Time that it had.
//
// A request between two pods of one node passes the proxy once. Emit counts it for
// both sides: outbound for the client and inbound for the server. The server's
// numbers are therefore complete, whichever node its clients run on.
func (m *Metrics) Emit(e *tap.Event) {
	m.count(e, e.Direction)
	if e.TLS == tap.TLSSameNode && e.Direction == mesh.Outbound {
		m.count(e, mesh.Inbound)
	}
}

// Wants implements tap.Chooser.
func (m *Metrics) Wants(k tap.Kind) bool { return k != tap.ResponseInit }

func (m *Metrics) count(e *tap.Event, direction mesh.Direction) {
	now := e.Time
	switch e.Kind {
	case tap.RequestInit:
		k, _ := shortOf(e, direction)
		m.requests.update(k, func() target { return targetOf(e, direction) }, now, func(s *requestSeries) { s.total.Add(1) })
	case tap.ResponseEnd:
		m.responses.update(shortResponse(e, direction), func() response { return responseOf(e, direction) }, now, func(s *responseSeries) { s.observe(e) })
		if e.Route != nil && direction == mesh.Outbound {
			m.routes.update(short{}, func() routed { return routedOf(e) }, now, func(s *routeSeries) { s.observe(e) })
		}
	case tap.ConnOpen, tap.LegOpen, tap.ConnClose, tap.LegClose, tap.Grown:
		m.connection(e, direction, now)
	}
}

// Describe makes m an unchecked collector, because the series of one family have
// different labels.
func (m *Metrics) Describe(chan<- *prometheus.Desc) {}

// Collect drops idle series and exports the others.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	before := time.Now().Add(-idleAfter)
	m.requests.sweep(before, nil)
	m.responses.sweep(before, nil)
	m.routes.sweep(before, nil)
	m.requests.each(func(s *requestSeries) { s.collect(out) })
	m.responses.each(func(s *responseSeries) { s.collect(out) })
	for p := range m.conns {
		m.conns[p].sweep(before, (*connSeries).idle)
		m.closes[p].sweep(before, nil)
		m.conns[p].each(func(s *connSeries) { s.collect(out) })
		m.closes[p].each(func(s *closeSeries) { s.collect(out) })
	}
	m.routes.each(func(s *routeSeries) { s.collect(out) })
}

// overflow returns the folded and the dropped keys of all families.
func (m *Metrics) overflow() (folded, dropped uint64) {
	folded = m.requests.folded.Load() + m.responses.folded.Load()
	dropped = m.requests.dropped.Load() + m.responses.dropped.Load() + m.routes.dropped.Load()
	for p := range m.conns {
		folded += m.conns[p].folded.Load() + m.closes[p].folded.Load()
		dropped += m.conns[p].dropped.Load() + m.closes[p].dropped.Load()
	}
	return folded, dropped
}
