package request

import (
	"cmp"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/monotime"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/route"
	"github.com/underlane/underlane/pkg/tap"
	"github.com/underlane/underlane/pkg/tracing"
)

// Exchange reports one request and its response to tap and the metrics. A driver calls
// Begin, then Chose and Response if the request gets that far, and then End, exactly
// once. The zero value is ready to use, and can be reused after End.
//
// It is made of layers, each of which embeds the one below it and knows none above: timing,
// headFields. Exchange itself emits the events.
type Exchange struct {
	headFields
	shown bool          // RequestInit was emitted
	said  mesh.Reason   // see PeerReason
	next  time.Duration // when the attempt after the last one of Attempted began, counted from began; only of a sampled request
}

// headFields collects the header fields that readers of tap see, and sets those that the
// request's trace needs (headers.go).
type headFields struct{ timing }

// timing measures what the exchange spends its time on (split.go).
type timing struct {
	session *Session // nil: the exchange is not reported, or has ended
	event   tap.Event
	began   time.Time
	at      time.Duration // the same by monotime.Now
	since   time.Duration // when phase began, counted from began
	phase   phase
}

// Line is what is known of a request from its head. The strings may be empty if
// Session.TapActive is false, and Trace and Head are nil.
type Line struct {
	Protocol                        string // http1, http2, grpc
	GRPC                            bool
	Method, Scheme, Authority, Path string
	Outside                         string // that of tap.Event
	Untold                          bool   // the other strings are empty because tap was not active
	BindsLogin                      bool   // the request authenticates its connection

	Trace *tracing.Trace // set by Session.Observe
	Head  *tap.Head      // likewise
}

// Begin starts an exchange: stream is unique within the session.
func (x *Exchange) Begin(s *Session, stream uint64, line Line) {
	x.BeginAt(s, stream, &line, monotime.Now())
}

// BeginAt is Begin for a request that came at a time in the past, by monotime.Now. line is not
// kept.
func (x *Exchange) BeginAt(s *Session, stream uint64, line *Line, at time.Duration) {
	x.session, x.began, x.at, x.shown, x.said = s, monotime.Time(at), at, false, mesh.ReasonNone
	x.phase, x.since, x.next = queued, 0, 0
	// The event is made where it is: a literal would lie on the stack of each connection's goroutine.
	e := &x.event
	*e = tap.Event{}
	e.Direction, e.Base, e.Stream = s.Direction, s.ID, stream
	e.Source, e.Destination, e.Service = s.source(), s.Target.Peer(), s.Target.Service()
	e.TLS, e.SNI, e.Process = s.TLS, s.SNI, s.Process
	e.Protocol, e.GRPC, e.Untold = line.Protocol, line.GRPC, line.Untold
	e.Method, e.Scheme, e.Authority, e.Path, e.Outside = line.Method, line.Scheme, line.Authority, line.Path, line.Outside
	e.Trace, e.Head = line.Trace, line.Head
}

// Routed records the rule that the request matched.
func (x *Exchange) Routed(rule *route.Rule) { x.event.Route, x.event.Rule = rule.Route, rule.Label }

// Retried counts a retry.
func (x *Exchange) Retried() { x.event.Retries++ }

// Chose records the endpoint, and reports the request to tap if it was not reported yet.
func (x *Exchange) Chose(a *endpoints.Attempt) {
	x.event.Destination, x.event.Judged = a.Found.Peer, a.Judged
	if x.event.Direction == mesh.Outbound {
		x.event.TLS = a.Found.TLS
	}
	x.show()
}

// Judged records how the policies of a server of this node have decided. nil: it has none.
func (x *Exchange) Judged(e *calls.Entry) { x.event.Judged = e }

// Attempted records an attempt that another one follows now, in the trace of the request if
// that is sampled. ended is the Elapsed of its end. status is that of a response that it
// got, 0 for none, and grpcStatus that of a call of gRPC that failed in the response's head.
// why says what has failed otherwise.
func (x *Exchange) Attempted(a *endpoints.Attempt, ended time.Duration, status, grpcStatus int, why mesh.Reason) {
	t := x.event.Trace
	if t == nil {
		return
	}
	t.Attempted(tracing.Attempt{
		Endpoint: a.Found.Peer.Addr, Began: x.next, Ended: ended, Status: status, GRPCStatus: x.grpcStatus(grpcStatus), Reason: why,
	})
	x.next = x.Elapsed()
}

func (x *Exchange) grpcStatus(status int) int {
	if !x.event.GRPC {
		return -1
	}
	return status
}

func (x *Exchange) show() {
	if !x.shown {
		x.shown = true
		x.emit(tap.RequestInit, x.began)
	}
}

// Response records the status of the response's head (not of interim ones).
func (x *Exchange) Response(status int) { x.ResponseAt(status, monotime.Now()) }

// ResponseAt is Response for a head that came at a time in the past, by monotime.Now.
func (x *Exchange) ResponseAt(status int, at time.Duration) {
	now := max(at-x.at, x.since)
	x.enter(responding, now)
	x.event.Status = status
	x.event.Latency = now
	x.emit(tap.ResponseInit, x.began.Add(now))
}

// PeerReason records the value of the response's field underlane-reason. If the agent of
// the server's node answered instead of the application, the client's tap then shows
// why. Any server can send such a field, so it counts only from an mTLS peer.
func (x *Exchange) PeerReason(reason string) {
	if x.event.Direction == mesh.Outbound && x.event.TLS == tap.TLSTrue {
		x.said, _ = reply.ParseReason(reason)
	}
}

// End is how an exchange ended.
type End struct {
	Reason                  mesh.Reason // ReasonNone: the response is complete
	Status                  int         // HTTP status of a response of the proxy itself; 0: that of Reason
	GRPCStatus              int         // of a gRPC call
	Reset                   bool
	ResetCode               uint32 // HTTP/2 error code
	RequestLen, ResponseLen uint64 // body bytes
}

// End ends the exchange and reports it to tap. It returns the time, by monotime.Now.
func (x *Exchange) End(end End) (at time.Duration) {
	x.show()
	now := x.elapsed()
	x.enter(responding, now)
	e := &x.event
	if x.session != nil {
		end.Reason = x.session.Ended(end.Reason)
	}
	e.Reason, e.GRPCStatus, e.Reset, e.ResetCode = end.Reason, end.GRPCStatus, end.Reset, end.ResetCode
	if e.Reason == mesh.ReasonNone {
		e.Reason = x.said
	}
	e.ReadBytes, e.WriteBytes = end.RequestLen, end.ResponseLen
	e.Duration = now
	if e.Status == 0 {
		e.Status = cmp.Or(end.Status, end.Reason.HTTPStatus())
		e.Latency = e.Duration
	}
	if t := e.Trace; t != nil && len(t.Attempts) > 0 {
		t.Attempted(tracing.Attempt{
			Endpoint: e.Destination.Addr, Began: x.next, Ended: now, Status: e.Status, GRPCStatus: x.grpcStatus(end.GRPCStatus), Reason: e.Reason,
		})
	}
	x.emit(tap.ResponseEnd, x.began.Add(now))
	x.session = nil
	return x.at + now
}

func (x *Exchange) emit(kind tap.Kind, at time.Time) {
	if x.session == nil {
		return // the exchange is a mirrored copy, which is not reported
	}
	x.event.Kind, x.event.Time = kind, at
	x.session.Core.Tap.Emit(&x.event)
	x.event.Headers = nil
}
