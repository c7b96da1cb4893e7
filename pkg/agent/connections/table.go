// Package connections knows the connections of the node's pods that are open. It reports
// what they carry while they are open, so that long ones count before they end, and lists
// them for the node API.
package connections

import (
	"net/netip"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"github.com/underlane/underlane/pkg/tap"
)

// maxDirect bounds the connections that no proxy carries and that are kept. Their close may
// be lost in the kernel's ring buffer.
const maxDirect = 1 << 16

// Options are what a Table works with.
type Options struct {
	Node string
	// Sinks get events of the kind tap.Grown, and a
	// tap.ConnClose of a connection whose own close was lost. They are those that get the connections'
	// other events after the Table.
	Sinks []tap.Sink
	// Direct returns the connections of a pod of this node that no proxy carries, as the
	// kernel has them now. nil: they are not known.
	Direct func(uid string) ([]netns.Connection, error)
	// Pods returns the pods of this node.
	Pods func() []*mesh.Workload
	// Workload returns the pod that has an address, and Service the Service; nil if there
	// is none.
	Workload func(netip.Addr) *mesh.Workload
	Service  func(netip.Addr) *mesh.Service
}

// Table has the open connections. It is a tap.Sink, which must get each event before the
// sinks that count: it sets Event.Counted, and Event.DNS of a close. Its methods are safe for concurrent use.
type Table struct {
	Options
	asked chan struct{} // has an element for each List that works

	mu     sync.Mutex
	live   map[tap.Live]*conn
	direct map[direct]*conn
	order  []*conn // of live, in no order
}

// direct identifies a connection that no proxy carries by its addresses, seen from the pod.
type direct struct {
	uid           string
	local, remote netip.AddrPort
}

// conn is an open connection.
type conn struct {
	began               time.Time
	live                tap.Live  // nil: no proxy carries it
	place               int       // in Table.order
	missing             time.Time // since when the kernel does not have it; of Table.mu
	source, destination tap.Peer
	service             *mesh.Service
	tls, protocol       string
	sni, dns, outside   string
	process             string
	base                uint32
	direction           mesh.Direction
	side                tap.Side

	mu      sync.Mutex // held while its growth is reported, and to end it
	ended   bool
	counted tap.Counted
	unasked bool // it has carried something since the kernel was asked for its facts
}

// New makes an empty Table.
func New(o Options) *Table {
	return &Table{Options: o, asked: make(chan struct{}, maxAsked), live: map[tap.Live]*conn{}, direct: map[direct]*conn{}}
}

// Emit implements tap.Sink.
func (t *Table) Emit(e *tap.Event) {
	switch e.Kind {
	case tap.ConnOpen, tap.LegOpen:
		t.opened(e)
	case tap.ConnClose, tap.LegClose:
		if c := t.remove(e); c != nil {
			c.mu.Lock()
			c.ended = true
			e.Counted = c.counted
			c.mu.Unlock()
			e.DNS = c.dns // it is counted where its opening was
		}
	}
}

// Wants implements tap.Chooser.
func (t *Table) Wants(k tap.Kind) bool {
	return k == tap.ConnOpen || k == tap.LegOpen || k == tap.ConnClose || k == tap.LegClose
}

func (t *Table) opened(e *tap.Event) {
	c := &conn{
		began: e.Time, live: e.Live, source: e.Source, destination: e.Destination, service: e.Service,
		tls: e.TLS, protocol: e.Protocol, sni: e.SNI, dns: e.DNS, outside: e.Outside, process: e.Process, base: e.Base, direction: e.Direction, side: e.Side,
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Live != nil {
		c.place = len(t.order)
		t.live[e.Live] = c
		t.order = append(t.order, c)
		return
	}
	if key, ok := directOf(e); ok && e.Origin == tap.FromKernel && len(t.direct) < maxDirect {
		t.direct[key] = c
	}
}

// directOf returns the key of a connection that no proxy carries.
func directOf(e *tap.Event) (direct, bool) {
	own, other := &e.Source, &e.Destination
	if e.Direction == mesh.Inbound {
		own, other = other, own
	}
	if own.Workload == nil {
		return direct{}, false
	}
	return direct{own.Workload.UID, own.Addr, other.Addr}, true
}

// remove takes the connection of a close out, and returns it; nil: there was none.
func (t *Table) remove(e *tap.Event) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Live == nil {
		key, ok := directOf(e)
		if !ok || e.Origin != tap.FromKernel {
			return nil
		}
		c := t.direct[key]
		delete(t.direct, key)
		return c
	}
	c := t.live[e.Live]
	if c == nil {
		return nil
	}
	delete(t.live, e.Live)
	last := len(t.order) - 1
	moved := t.order[last]
	t.order[c.place], moved.place = moved, c.place
	t.order[last] = nil
	t.order = t.order[:last]
	if cap(t.order) > 1024 && last < cap(t.order)/4 {
		t.order = append(make([]*conn, 0, 2*last), t.order...)
	}
	return c
}

// event makes an event of the connection.
func (c *conn) event(kind tap.Kind, at time.Time) tap.Event {
	e := tap.Event{
		Kind: kind, Time: at, Base: c.base, Side: c.side, Direction: c.direction,
		Source: c.source, Destination: c.destination, Service: c.service,
		TLS: c.tls, Protocol: c.protocol, SNI: c.sni, DNS: c.dns, Outside: c.outside, Process: c.process,
	}
	if c.live == nil {
		e.Origin = tap.FromKernel
	}
	return e
}

// Len returns the number of open connections that are known: of the proxy, whose sides count
// separately if they carry requests, and others.
func (t *Table) Len() (proxied, others int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.live), len(t.direct)
}
