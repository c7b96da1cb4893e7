package request

import (
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// ConnEvent makes the tap event of a connection that carries no requests. a is nil if no
// endpoint was chosen.
func (s *Session) ConnEvent(a *endpoints.Attempt) tap.Event {
	e := s.LegEvent(a)
	e.DNS = s.resolved()
	return e
}

// LegEvent makes the tap event of a connection that carries requests, which have names of
// their own.
func (s *Session) LegEvent(a *endpoints.Attempt) tap.Event {
	e := tap.Event{
		Direction: s.Direction, Base: s.ID,
		Source: s.source(), Destination: s.destination(),
		TLS: s.TLS, SNI: s.SNI, Process: s.Process, Protocol: "tcp", Judged: s.judged.Load(),
	}
	if s.Target != nil {
		e.Service = s.Target.Service()
	}
	if s.SNI != "" && s.Outside() {
		e.Outside = tap.Hostname(s.SNI)
	}
	if a != nil {
		e.Destination = a.Found.Peer
		e.Split = a.Took.Split()
		if s.Direction == mesh.Outbound {
			e.TLS = a.Found.TLS
		}
	}
	return e
}

// resolved returns the name from DNS of a destination outside the mesh that the client has
// not named. It stays the same for as long as the connection, which is counted by it.
func (s *Session) resolved() string {
	if !s.named && s.Names != nil && s.SNI == "" && s.Outside() && s.Source.Workload != nil {
		s.dns = s.Names.Name(s.Source.Workload, s.Original.Addr())
	}
	s.named = true
	return s.dns
}

func (s *Session) destination() tap.Peer {
	if s.Target == nil {
		return tap.Peer{Addr: s.Original}
	}
	return s.Target.Peer()
}

// Emit sends the event to tap, with this kind and time.
func (s *Session) Emit(e *tap.Event, kind tap.Kind, at time.Time) {
	e.Kind, e.Time = kind, at
	s.Tap.Emit(e)
}

// FailConn resets the client's connection after a failure, and reports the reason to tap.
// a is the attempt that failed; nil: there was none.
func (s *Session) FailConn(a *endpoints.Attempt, err error) {
	s.ReportFailure(a, err)
	_ = s.Client.Reset()
}

// ReportFailure reports to tap a connection that has failed.
func (s *Session) ReportFailure(a *endpoints.Attempt, err error) {
	e := s.ConnEvent(a)
	e.Reason, e.Reset = upstream.ReasonOf(err), true
	s.Emit(&e, tap.ConnClose, time.Now())
	s.Log.Debug("connection failed", "src", s.Source.Addr, "dst", e.Destination.Addr, "reason", e.Reason, "err", err)
}
