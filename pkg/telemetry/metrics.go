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
	conns     *table[target, connSeries]
	closes    *table[closing, closeSeries]
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
	m.conns = newTable(o.MaxSeries, target.fold, func(t target) *connSeries {
		labels := t.labels(o.ClusterDomain)
		return &connSeries{src: newConnDescs(labels, "src"), dst: newConnDescs(labels, "dst")}
	})
	m.closes = newTable(o.MaxSeries, func(c closing) closing { c.target = c.target.fold(); return c }, func(c closing) *closeSeries {
		const help = "Connections that closed, and attempts that failed."
		labels := c.labels(o.ClusterDomain)
		return &closeSeries{
			src: desc("tcp_close_total", help, withPeer(labels, "src")),
			dst: desc("tcp_close_total", help, withPeer(labels, "dst")),
		}
	})
	m.routes = newTable(o.MaxSeries, routed.fold, newRouteSeries)
	m.registry.MustRegister(m, agentCollector{m},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func newConnDescs(labels prometheus.Labels, peer string) connDescs {
	labels = withPeer(labels, peer)
	return connDescs{
		opened: desc("tcp_open_total", "Connections that opened.", labels),
		open:   desc("tcp_open_connections", "Connections that are open.", labels),
		read:   desc("tcp_read_bytes_total", "Bytes read from the peer.", labels),
		wrote:  desc("tcp_write_bytes_total", "Bytes written to the peer.", labels),
	}
}

// Registry returns the registry, where the caller may register further collectors.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// Emit implements tap.Sink. It allocates nothing for an event whose series exists.
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

func (m *Metrics) count(e *tap.Event, direction mesh.Direction) {
	now := time.Now()
	switch e.Kind {
	case tap.RequestInit:
		m.requests.update(targetOf(e, direction), now, func(s *requestSeries) { s.total.Add(1) })
	case tap.ResponseEnd:
		m.responses.update(responseOf(e, direction), now, func(s *responseSeries) { s.observe(e.Latency) })
		if e.Route != nil && direction == mesh.Outbound {
			m.routes.update(routedOf(e), now, func(s *routeSeries) { s.observe(e) })
		}
	case tap.ConnOpen:
		m.conns.update(targetOf(e, direction), now, func(s *connSeries) {
			s.opened.Add(1)
			s.open.Add(1)
		})
	case tap.ConnClose:
		t := targetOf(e, direction)
		m.closes.update(closing{t, e.Reason}, now, func(s *closeSeries) { s.total.Add(1) })
		if e.Duration > 0 { // otherwise the attempt failed and there was no connection
			m.conns.update(t, now, func(s *connSeries) { s.carry(e); s.close() })
		}
	case tap.Grown:
		if e.Side == 0 {
			m.conns.update(targetOf(e, direction), now, func(s *connSeries) { s.carry(e) })
		}
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
	m.conns.sweep(before, (*connSeries).idle)
	m.closes.sweep(before, nil)
	m.routes.sweep(before, nil)
	m.requests.each(func(s *requestSeries) { s.collect(out) })
	m.responses.each(func(s *responseSeries) { s.collect(out) })
	m.conns.each(func(s *connSeries) { s.collect(out) })
	m.closes.each(func(s *closeSeries) { s.collect(out) })
	m.routes.each(func(s *routeSeries) { s.collect(out) })
}

// overflow returns the folded and the dropped keys of all families.
func (m *Metrics) overflow() (folded, dropped uint64) {
	folded = m.requests.folded.Load() + m.responses.folded.Load() + m.conns.folded.Load() + m.closes.folded.Load()
	dropped = m.requests.dropped.Load() + m.responses.dropped.Load() + m.conns.dropped.Load() + m.closes.dropped.Load() + m.routes.dropped.Load()
	return folded, dropped
}
