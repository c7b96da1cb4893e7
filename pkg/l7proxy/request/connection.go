package request

import (
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// EmitConn emits an event of a connection that carries no requests. a is nil if no endpoint
// was chosen. fill sets what is known beside that. The event is valid until fill returns.
func (r *reporter) EmitConn(a *endpoints.Attempt, kind tap.Kind, at time.Time, fill func(*tap.Event)) {
	e := tap.Borrow()
	r.describe(e, a)
	e.DNS = r.resolved()
	fill(e)
	r.Emit(e, kind, at)
	e.Return()
}

// EmitLeg is EmitConn for a connection that carries requests, which have names of their own.
func (r *reporter) EmitLeg(kind tap.Kind, at time.Time, fill func(*tap.Event)) {
	e := tap.Borrow()
	r.describe(e, nil)
	fill(e)
	r.Emit(e, kind, at)
	e.Return()
}

// describe sets what is known of the connection. e is empty.
func (r *reporter) describe(e *tap.Event, a *endpoints.Attempt) {
	e.Direction, e.Base = r.Direction, r.ID
	e.Source, e.Destination = r.source(), r.destination()
	e.TLS, e.SNI, e.Process, e.Protocol, e.Judged = r.TLS, r.SNI, r.Process, "tcp", r.judged.Load()
	if r.Said.TLS {
		e.Protocol = "tls"
	}
	if r.Target != nil {
		e.Service = r.Target.Service()
	}
	if r.SNI != "" && r.Outside() {
		e.Outside = tap.Hostname(r.SNI)
	}
	if a != nil {
		e.Destination = a.Found.Peer
		e.Split = a.Took.Split()
		if r.Direction == mesh.Outbound {
			e.TLS = a.Found.TLS
		}
	}
}

// resolved returns the name from DNS of a destination outside the mesh that the client has
// not named. It stays the same for as long as the connection, which is counted by it.
func (r *reporter) resolved() string {
	if !r.named && r.Names != nil && r.SNI == "" && r.Outside() && r.Source.Workload != nil {
		r.dns = r.Names.Name(r.Source.Workload, r.Original.Addr())
	}
	r.named = true
	return r.dns
}

func (c *Connection) destination() tap.Peer {
	if c.Target == nil {
		return tap.Peer{Addr: c.Original}
	}
	return c.Target.Peer()
}

// Emit sends the event to tap, with this kind and time.
func (r *reporter) Emit(e *tap.Event, kind tap.Kind, at time.Time) {
	e.Kind, e.Time = kind, at
	r.Tap.Emit(e)
}

// FailConn resets the client's connection after a failure, and reports the reason to tap.
// a is the attempt that failed; nil: there was none.
func (r *reporter) FailConn(a *endpoints.Attempt, err error) {
	r.ReportFailure(a, err)
	_ = r.Client.Reset()
}

// ReportFailure reports to tap a connection that has failed.
func (r *reporter) ReportFailure(a *endpoints.Attempt, err error) {
	reason := upstream.ReasonOf(err)
	r.EmitConn(a, tap.ConnClose, time.Now(), func(e *tap.Event) {
		e.Reason, e.Reset = reason, true
		r.Log.Debug("connection failed", "src", r.Source.Addr, "dst", e.Destination.Addr, "reason", e.Reason, "err", err)
	})
}
