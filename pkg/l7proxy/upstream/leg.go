package upstream

import (
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// leg reports a TCP connection to an endpoint that carries requests, when it opens and when
// it closes. A nil leg reports nothing.
type leg struct {
	tap      tap.Sink
	raw      *rawio.Conn
	client   tap.Peer
	server   tap.Peer
	inbound  bool
	tls      string
	protocol string // http1, http2
	began    time.Time
}

// opened reports that a connection is open. client is its address. The result is nil if
// nothing is to be reported, or if raw is nil.
func (p *Pool) opened(raw *rawio.Conn, ep *Endpoint, result *Result, client netip.AddrPort, protocol string) *leg {
	if p.Tap == nil || raw == nil {
		return nil
	}
	l := &leg{
		tap: p.Tap, raw: raw, server: result.Peer, tls: result.TLS, protocol: protocol, began: time.Now(),
		inbound: ep.Client == nil, client: tap.Peer{Addr: raw.Local(), Workload: ep.Client},
	}
	if l.inbound {
		l.client.Addr = client
		l.client.Workload, _ = p.State.View().Workload(client.Addr())
	} else {
		l.client.Identity = ep.Client.Identity
	}
	l.emit(tap.LegOpen, l.began, nil)
	return l
}

// emit emits an event. facts is nil until the connection is closed.
func (l *leg) emit(kind tap.Kind, at time.Time, facts *tap.Leg) {
	e := tap.Borrow()
	e.Kind, e.Side, e.Time, e.Live = kind, tap.ServerSide, at, l
	e.Source, e.Destination, e.TLS, e.Protocol = l.client, l.server, l.tls, l.protocol
	if l.inbound {
		e.Direction = mesh.Inbound
	}
	if facts != nil {
		e.Duration = at.Sub(l.began)
		e.Legs = &tap.Legs{Server: *facts}
		e.SRTT, e.MinRTT, e.Retransmits, e.ReadBytes, e.WriteBytes = facts.SRTT, facts.MinRTT, facts.Retransmits, facts.Sent, facts.Received
	}
	l.tap.Emit(e)
	e.Return()
}

// closed reports that the connection is closed. It is called once.
func (l *leg) closed() {
	if l == nil {
		return
	}
	facts := LegOf(l.raw)
	l.emit(tap.LegClose, time.Now(), &facts)
}

// Bytes implements tap.Live.
func (l *leg) Bytes() (read, written uint64) {
	received, sent := l.raw.Bytes()
	return sent, received
}

// Legs implements tap.Live.
func (l *leg) Legs() tap.LiveLegs { return tap.LiveLegs{Server: LiveLegOf(l.raw)} }

// shared is a stream of a shared connection, which has no TCP connection of its own.
type shared interface {
	Wire() (f rawio.Facts, local, remote netip.AddrPort)
}

// SideOf returns what is known now of one side of an opaque connection, on which so many
// bytes were received and sent. Of a stream, the kernel's facts are those of the shared
// connection, and the addresses are those of mux.Stream.Wire.
func SideOf(c conn.Conn, received, sent uint64) tap.LiveLeg {
	s, ok := c.(shared)
	if !ok {
		return LiveLegOf(c.Raw())
	}
	facts, local, remote := s.Wire()
	facts.Read, facts.Written = received, sent
	return tap.LiveLeg{Leg: legOf(facts), Local: local, Remote: remote}
}

// EndOf is SideOf for a connection that has ended.
func EndOf(c conn.Conn, received, sent uint64) tap.Leg {
	if raw := c.Raw(); raw != nil {
		return LegOf(raw)
	}
	return SideOf(c, received, sent).Leg
}

// LiveLegOf returns what the kernel knows of a connection now. It returns the zero value
// for a nil raw.
func LiveLegOf(raw *rawio.Conn) tap.LiveLeg {
	if raw == nil {
		return tap.LiveLeg{}
	}
	return tap.LiveLeg{Leg: legOf(raw.Now()), Local: raw.Local(), Remote: raw.Remote()}
}

// LegOf returns what the kernel knows of a connection at its end. It returns the zero value
// for a nil raw.
func LegOf(raw *rawio.Conn) tap.Leg {
	if raw == nil {
		return tap.Leg{}
	}
	return legOf(raw.Last())
}

func legOf(f rawio.Facts) tap.Leg {
	return tap.Leg{SRTT: f.SRTT, MinRTT: f.MinRTT, Retransmits: f.Retransmits, Received: f.Read, Sent: f.Written, Unread: f.Unread}
}
