package telemetry

import (
	"maps"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// peer says which of the two TCP connections of the proxy a series of the tcp_…
// families counts, as Linkerd's label peer does: the one to the client (src) or the one
// to the server (dst).
type peer int

const (
	src peer = iota
	dst
	numPeers
)

func (p peer) String() string { return [...]string{"src", "dst"}[p] }

// withPeer returns a copy of labels with the label peer.
func withPeer(labels prometheus.Labels, p peer) prometheus.Labels {
	l := maps.Clone(labels)
	l["peer"] = p.String()
	return l
}

// connection counts the begin or the end of connections, for one direction.
//
// An opaque connection has a connection of the proxy on either side, which begin and end
// together: it counts for both peers. Of the connections that carry requests, each has
// events of its own. A request between two pods of one node passes the proxy once, so the
// connection to the server is all that the server's side has: inbound it counts for both
// peers.
func (m *Metrics) connection(e *tap.Event, direction mesh.Direction, now time.Time) {
	k, _ := shortOf(e, direction)
	leg := e.Kind == tap.LegOpen || e.Kind == tap.LegClose || e.Kind == tap.Grown && e.Side != 0
	sameNode := direction != e.Direction
	for p := range numPeers {
		if !leg {
			m.ofPeer(e, k, func() target { return targetOf(e, direction) }, p, now)
		} else if sameNode || p == peerOf(e.Side) {
			m.ofPeer(e, k.leg(p), func() target { return targetOf(e, direction).leg(p) }, p, now)
		}
	}
}

// toOwnPod reports whether a connection is the one between the agent and the pod that the
// series is about. It stays in the pod, without TLS and without another pod's identity.
func toOwnPod(direction mesh.Direction, p peer) bool {
	return (direction == mesh.Inbound) == (p == dst)
}

func (t target) leg(p peer) target {
	if toOwnPod(t.direction, p) {
		t.tls, t.peer = "", mesh.Identity{}
	}
	return t
}

func (k short) leg(p peer) short {
	if toOwnPod(k.direction, p) {
		k.tls, k.peer = "", nil
	}
	return k
}

func peerOf(side tap.Side) peer {
	if side == tap.ServerSide {
		return dst
	}
	return src
}

func (m *Metrics) ofPeer(e *tap.Event, k short, key func() target, p peer, now time.Time) {
	switch e.Kind {
	case tap.ConnOpen, tap.LegOpen:
		m.conns[p].update(k, key, now, func(s *connSeries) {
			s.opened.Add(1)
			s.open.Add(1)
		})
	case tap.ConnClose, tap.LegClose:
		m.closes[p].update(k.closing(e.Reason), func() closing { return closing{key(), e.Reason} }, now, func(s *closeSeries) { s.total.Add(1) })
		if e.Duration <= 0 { // the attempt failed: there was no connection
			return
		}
		m.conns[p].update(k, key, now, func(s *connSeries) { s.carry(e, p); s.close(e.Duration) })
	case tap.Grown:
		m.conns[p].update(k, key, now, func(s *connSeries) { s.carry(e, p) })
	}
}

// connSeries has the tcp_… series of one target and peer, except for tcp_close_total.
type connSeries struct {
	descs struct{ opened, open, read, wrote, lasted *prometheus.Desc }

	opened      atomic.Uint64
	open        atomic.Int64
	read, wrote atomic.Uint64 // bytes from the peer and to it
	lasted      latencies
	closed      atomic.Bool // lasted has something
}

func newConnSeries(labels prometheus.Labels, p peer) *connSeries {
	labels = withPeer(labels, p)
	s := new(connSeries)
	s.descs.opened = desc("tcp_open_total", "Connections that opened.", labels)
	s.descs.open = desc("tcp_open_connections", "Connections that are open.", labels)
	s.descs.read = desc("tcp_read_bytes_total", "Bytes read from the peer.", labels)
	s.descs.wrote = desc("tcp_write_bytes_total", "Bytes written to the peer.", labels)
	s.descs.lasted = desc("tcp_connection_duration_ms", "How long connections that closed were open, in milliseconds.", labels)
	return s
}

// carry counts the bytes of one connection that were not counted before.
func (s *connSeries) carry(e *tap.Event, p peer) {
	read := e.ReadBytes - min(e.Counted.ReadBytes, e.ReadBytes)
	wrote := e.WriteBytes - min(e.Counted.WriteBytes, e.WriteBytes)
	if p == dst { // what is read from the source is written to the destination
		read, wrote = wrote, read
	}
	s.read.Add(read)
	s.wrote.Add(wrote)
}

// close counts the end of one connection. The gauge does not go below zero, because a
// connection may have been open before the agent started.
func (s *connSeries) close(lasted time.Duration) {
	s.lasted.observe(lasted)
	s.closed.Store(true)
	for {
		n := s.open.Load()
		if n <= 0 || s.open.CompareAndSwap(n, n-1) {
			return
		}
	}
}

func (s *connSeries) idle() bool { return s.open.Load() == 0 }

func (s *connSeries) collect(out chan<- prometheus.Metric) {
	counter(out, s.descs.opened, s.opened.Load())
	out <- prometheus.MustNewConstMetric(s.descs.open, prometheus.GaugeValue, float64(s.open.Load()))
	counter(out, s.descs.read, s.read.Load())
	counter(out, s.descs.wrote, s.wrote.Load())
	if s.closed.Load() { // the buckets of a connection that stays open would all be 0
		s.lasted.collect(out, s.descs.lasted)
	}
}

// closeSeries is one series of tcp_close_total.
type closeSeries struct {
	desc  *prometheus.Desc
	total atomic.Uint64
}

func (s *closeSeries) collect(out chan<- prometheus.Metric) { counter(out, s.desc, s.total.Load()) }

// closing identifies the series of tcp_close_total.
type closing struct {
	target
	reason mesh.Reason
}

func (k short) closing(reason mesh.Reason) short {
	if k != (short{}) {
		k.reason = reason
	}
	return k
}

func (c closing) fold() closing {
	c.target = c.target.fold()
	return c
}

func (c closing) labels(clusterDomain string) prometheus.Labels {
	l := c.target.labels(clusterDomain)
	l["classification"] = classification(c.reason == mesh.ReasonNone)
	set(l, "reason", c.reason.String())
	set(l, "errno", errnos[c.reason])
	return l
}

// errnos has Linkerd's errno label for the reasons that come from a failed system
// call.
var errnos = [mesh.NumReasons]string{
	mesh.ReasonConnectRefused: "ECONNREFUSED",
	mesh.ReasonRefused:        "ECONNREFUSED",
	mesh.ReasonConnectTimeout: "ETIMEDOUT",
	mesh.ReasonUnreachable:    "EHOSTUNREACH",
	mesh.ReasonReset:          "ECONNRESET",
	mesh.ReasonUpstreamReset:  "ECONNRESET",
	mesh.ReasonClientReset:    "ECONNRESET",
	mesh.ReasonPodGone:        "ECONNRESET",
}
