// Package opaque carries opaque connections: it copies bytes in both directions until both
// sides have ended.
package opaque

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Opened is a connection to an endpoint.
type Opened struct {
	Attempt *endpoints.Attempt
	Conn    conn.Conn
	First   []byte // bytes that the server has sent already
	Err     error  // why the connection was cut after them; nil: it was not
}

// Discard closes the connection. It does nothing if o is nil.
func (o *Opened) Discard() {
	if o != nil && o.Conn != nil {
		o.Conn.Close()
		o.Attempt.Done()
	}
}

// Cut is Discard for a connection whose client is gone: the server sees a reset, as it
// would without the mesh. It is safe on nil.
func (o *Opened) Cut() {
	if o != nil && o.Conn != nil {
		_ = o.Conn.Reset()
	}
	o.Discard()
}

// Serve carries a session. up is the connection to the endpoint; nil: Serve makes it. protocol is
// shown by tap. Serve returns nil if the session has ended. Otherwise it goes on without this
// goroutine, and the caller calls GoOn.
//
// The goroutine of a connection keeps the frame of Serve for as long as it carries it. What is done
// before and afterwards is in functions that are not inlined, so that the frame is small: a few
// hundred bytes more need a stack of twice the size.
func Serve(ctx context.Context, s *request.Session, up *Opened, protocol string) (on request.Rest) {
	if up == nil {
		if up = reach(ctx, s); up == nil {
			return nil
		}
	}
	c := &carried{s: s, up: up, protocol: protocol}
	defer func() {
		if on == nil {
			c.leave()
		}
	}()
	c.open()
	fromClient, fromServer := s.Head, up.First
	s.Head, up.First = nil, nil // not kept for as long as the connection
	if up.Err != nil {
		reason := upstream.ReadReason(up.Err)
		c.relay.Cut(reason)
		c.report(reason)
		return nil
	}
	if !c.relay.Begin(fromClient, fromServer) {
		return c
	}
	c.report(s.Ended(c.relay.Reason()))
	return nil
}

// reach makes the connection to the endpoint. It returns nil after a failure, which it reports.
//
//go:noinline
func reach(ctx context.Context, s *request.Session) *Opened {
	s.Task.Pause()
	a, c, err := s.Reach(ctx, s.Said)
	if err != nil {
		s.FailConn(a, err)
		return nil
	}
	s.Task.Resume()
	return &Opened{Attempt: a, Conn: c}
}

// carried is a connection that is open.
type carried struct {
	relay    conn.Relay
	listed   request.Opaque
	s        *request.Session
	up       *Opened
	protocol string
	client   tap.Peer // as the first event has it: its workload may become known later
}

// GoOn implements request.Rest.
func (c *carried) GoOn(over func(*conn.Defect)) {
	c.relay.GoOn(func(defect *conn.Defect) {
		defer func() {
			if what := recover(); what != nil {
				defect = &conn.Defect{What: what, Stack: debug.Stack()}
			}
			over(defect)
		}()
		defer c.leave()
		c.report(c.s.Ended(c.relay.Reason()))
	})
}

// leave closes the connection to the endpoint.
func (c *carried) leave() {
	c.s.Opaque.Leave(&c.listed)
	c.up.Discard()
}

// open lists the connection among those that are judged again, and reports it.
//
//go:noinline
func (c *carried) open() {
	s, up := c.s, c.up
	up.Attempt.Connected()
	c.listed = request.Opaque{Session: s, Endpoint: &up.Attempt.Endpoint}
	s.Opaque.Enter(&c.listed)
	r := &c.relay
	r.Client, r.Server, r.Task, r.Budget, r.Seen, r.Began = s.Client, up.Conn, &s.Task, s.Quota, s.Answers(), time.Now()
	r.Lot = s.Lot
	c.emit(tap.ConnOpen, r.Began, func(e *tap.Event) { c.client, e.Live = e.Source, (*live)(r) })
	r.Count(&r.ToServer, len(s.Head))
	r.Count(&r.ToClient, len(up.First))
}

// report reports the end.
//
//go:noinline
func (c *carried) report(reason mesh.Reason) {
	r, s, up := &c.relay, c.s, c.up
	if up.Attempt.Mode == upstream.MTLS {
		s.Upstream.Carried(up.Attempt.Key, r.ToServer.Load()+r.ToClient.Load())
	}
	ended := time.Now()
	c.emit(tap.ConnClose, ended, func(e *tap.Event) {
		e.Source, e.Live = c.client, (*live)(r)
		e.ReadBytes, e.WriteBytes = r.ToServer.Load(), r.ToClient.Load()
		e.Reason, e.Reset = reason, reason != mesh.ReasonNone
		e.Duration, e.Split.FirstByte = ended.Sub(r.Began), r.FirstByte()
		e.Legs = &tap.Legs{
			Client: upstream.EndOf(s.Client, e.ReadBytes, e.WriteBytes), Server: upstream.EndOf(up.Conn, e.WriteBytes, e.ReadBytes),
		}
		wire := e.Legs.Wire(s.Direction)
		e.SRTT, e.MinRTT, e.Retransmits = wire.SRTT, wire.MinRTT, wire.Retransmits
	})
}

// live is a connection that is being carried.
type live conn.Relay

// Bytes implements tap.Live.
func (l *live) Bytes() (read, written uint64) { return l.ToServer.Load(), l.ToClient.Load() }

// Legs implements tap.Live.
func (l *live) Legs() tap.LiveLegs {
	up, down := l.Bytes()
	return tap.LiveLegs{Client: upstream.SideOf(l.Client, up, down), Server: upstream.SideOf(l.Server, down, up)}
}

// emit emits an event of the connection.
func (c *carried) emit(kind tap.Kind, at time.Time, fill func(*tap.Event)) {
	c.s.EmitConn(c.up.Attempt, kind, at, func(e *tap.Event) {
		e.Protocol = c.protocol
		fill(e)
	})
}
