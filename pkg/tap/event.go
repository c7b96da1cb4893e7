// Package tap carries events of the data path to their readers. Events from the
// proxy and from the kernel go through a bounded fan-out (Hub) to tap, top,
// metrics and the access log. A slow reader loses events and is told how many.
// It never slows traffic.
package tap

import (
	"net/netip"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/tracing"
)

// Kind is what an Event reports.
type Kind uint8

const (
	RequestInit  Kind = iota + 1 // request head seen
	ResponseInit                 // response head seen
	ResponseEnd                  // response complete, reset, or synthesised
	ConnOpen                     // proxied opaque connection opened, or kernel: connection established
	ConnClose                    // such a connection closed or failed; failures carry a Reason
	LegOpen                      // TCP connection of the proxy that carries requests opened: see Side
	LegClose                     // such a connection closed; Legs has the kernel's facts
	Grown                        // a connection that is open has carried something: see Counted
	kinds                        // how many there are
)

// Origin is the source of an Event.
type Origin uint8

const (
	FromProxy  Origin = iota
	FromKernel        // ring-buffer event: a connection that no proxy carries
)

// Side tells the two TCP connections of the proxy apart. A proxied opaque connection
// consists of one of each. The two that a request passes live and end independently of
// each other, because requests share those to servers: so each has events of its own,
// LegOpen and LegClose.
type Side uint8

const (
	ClientSide Side = iota + 1 // between the client and the proxy
	ServerSide                 // between the proxy and the server
)

// String returns "client" or "server", and "" for the zero Side.
func (s Side) String() string {
	switch s {
	case ClientSide:
		return "client"
	case ServerSide:
		return "server"
	}
	return ""
}

// Leg is what the kernel knows of one TCP connection of the proxy when it closes. With
// mTLS the bytes are those of the records. The zero value means that nothing is known.
type Leg struct {
	SRTT        time.Duration // smoothed round-trip time
	MinRTT      time.Duration // the lowest of the last minutes, without delayed acknowledgements
	Retransmits uint32        // segments that the proxy's side sent again
	Received    uint64        // bytes that the proxy read
	Sent        uint64        // bytes that the proxy wrote
	// Unread is how long the other side's receive window was full: its program did not
	// read what the proxy sent.
	Unread time.Duration
}

// Legs are the two TCP connections of a proxied connection.
type Legs struct{ Client, Server Leg }

// Split says where the time of a call went. The parts add up to Event.Duration. Times of
// several attempts are added up.
//
// Of a connection of opaque bytes (ConnOpen, ConnClose) it says where the time went before
// it was open, or failed: Queue (the wait for the turn of a handshake), Connect and TLS, at
// the endpoint that was tried last. Event.Duration begins after that, and so does FirstByte of a
// ConnClose: it is the time until the server's first byte. 0: nothing came from the server, or the
// kernel has the connection.
type Split struct {
	// Queue is the time in the proxy: from the request's head until it is sent, except
	// for the next two; the wait for a stream or for the turn of a handshake; and the
	// pauses of retries and of delays that a route asks for.
	Queue time.Duration
	// Connect is the time in which a TCP connection to the endpoint was made, and for
	// HTTP/2 until the endpoint has sent its SETTINGS.
	Connect time.Duration
	TLS     time.Duration // the handshake with the endpoint's agent
	// FirstByte is the time from the end of the request to the head of the response: the
	// server works, or the network is slow.
	FirstByte time.Duration
	// Body is the time in which bodies are sent: the rest of the request's, if it ends
	// before the response begins, and the response's.
	Body time.Duration
}

// Live tells of a connection of the proxy while it is open: of both of its sides, or of the
// one that carries requests. The methods may be called by any goroutine, also after the
// close. The dynamic type is comparable, and tells connections apart.
type Live interface {
	// Bytes returns what Event.ReadBytes and WriteBytes would be now. It makes no system call.
	Bytes() (read, written uint64)
	// Legs returns what the kernel knows now, by one system call for each side.
	Legs() LiveLegs
}

// LiveLegs are the two TCP connections of a proxied connection that is open.
type LiveLegs struct{ Client, Server LiveLeg }

// LiveLeg is one of them. The zero value is a side that the connection does not have.
type LiveLeg struct {
	Leg
	Local, Remote netip.AddrPort // of the proxy's socket, in the namespace of the pod
}

// Counted is what was reported of a connection before it closed.
type Counted struct {
	ReadBytes, WriteBytes uint64
	Retransmits           uint32
}

// Peer is one end of a connection.
type Peer struct {
	Addr     netip.AddrPort
	Workload *mesh.Workload // nil if the address belongs to no known pod
	Identity mesh.Identity  // authenticated by mTLS or by the kernel (same node); zero otherwise
}

// Values of Event.TLS, which Linkerd shows as tls=.
const (
	TLSTrue       = "true"        // mutual TLS with verified identities
	TLSSameNode   = "same-node"   // never left this kernel, which vouches for the identities
	TLSNoIdentity = "no-identity" // the peer is outside the mesh
	TLSAgentDown  = "agent-down"  // fell back to plaintext: the peer's agent did not answer
	TLSNotProxied = "not-proxied" // kernel event of a connection that is not proxied
)

// Event is one record. A request makes up to three (RequestInit, ResponseInit,
// ResponseEnd); a connection makes ConnOpen and ConnClose, and the proxy's own
// connections that carry requests make LegOpen and LegClose. Each has all fields
// that are known by then. A ConnClose without Duration reports a connection that
// was never open. The request's strings may be empty if there is no reader
// (Hub.Active is false).
//
// A Sink must not keep a pointer to an Event after Emit returns.
type Event struct {
	Kind      Kind
	Origin    Origin
	Side      Side // of LegOpen and LegClose
	Direction mesh.Direction
	Time      time.Time
	Base      uint32 // together with Stream: the id of a request, unique on this agent
	Stream    uint64

	Source      Peer
	Destination Peer
	Service     *mesh.Service // apex Service of the original destination; nil: not a Service
	TLS         string
	Route       *mesh.Route // route that was applied to the request; nil: none
	Rule        string      // rule of Route that matched: its name, or its index from 0
	Retries     int         // attempts after the first that the route asked for

	Protocol  string // http1, http2, grpc, tcp, tls
	Method    string
	Scheme    string
	Authority string
	Path      string
	SNI       string
	// Outside is the name by which figures count a destination outside the mesh: that of
	// the request's authority or of SNI, as Hostname returns it. "": there is none, and the
	// address counts. Clients can write there what they like.
	Outside string
	// DNS is the name by which the client has resolved the address of a destination outside
	// the mesh, of a connection of which no other name is known. It is what the client's
	// resolver has said, as Hostname returns it. "": it is not known, or another name counts.
	DNS string

	Status     int  // HTTP status
	GRPC       bool // the call is gRPC: GRPCStatus is meaningful on ResponseEnd
	GRPCStatus int
	Reset      bool   // stream or connection was reset
	ResetCode  uint32 // HTTP/2 error code

	Latency  time.Duration // request head to response head
	Duration time.Duration // request head to response end; lifetime of a connection
	Split    Split         // of a request, as far as it has got; of opaque bytes, see Split
	Asked    time.Duration // for which an external authorizer was asked, a part of Split.Queue; 0: none was
	// Bytes read from and written to the source's side. For HTTP, WriteBytes
	// is the length of the response body and ReadBytes of the request body.
	ReadBytes, WriteBytes uint64

	Reason mesh.Reason // why the proxy or the kernel made it fail; ReasonNone on success

	// Untold means that the request began without a reader: its strings are not known. Only
	// the sinks that get every event get it.
	Untold bool

	// Judged is how the authorization policies of the server have decided; nil: it has none, or
	// the agent of another node decides.
	Judged *calls.Entry

	Trace *tracing.Trace // nil: the request is not sampled
	Head  *Head          // nil: neither a trace nor an access log needs it

	Process string // command name of the pod's program, up to 15 bytes; "" for proxied inbound

	// What the kernel knows when a connection closes, towards its other end: of kernel
	// events, and of a proxied connection the leg between the two nodes.
	SRTT        time.Duration // smoothed round-trip time
	MinRTT      time.Duration // the lowest of the last minutes
	Retransmits uint32
	Legs        *Legs // of proxied connections, at their close; nil: not known

	// Live is the connection that opens or closes; nil if no proxy carries it.
	Live Live
	// Counted is set at the close of a connection: its ReadBytes, WriteBytes and
	// Retransmits include what events of the kind Grown have reported. Those have in these
	// fields only what is new, and SRTT and MinRTT if the kernel was asked. They are made for the
	// sinks that count, and no subscription gets them.
	Counted Counted
	// Headers are the fields of the request's head (RequestInit), of the response's
	// (ResponseInit), or the trailers (ResponseEnd). nil: there are none, or they were not
	// collected because no reader asked for them (Hub.Headers).
	Headers *Headers
}

// events are those that Borrow returns. An event takes 700 bytes.
var events = sync.Pool{New: func() any { return new(Event) }}

// Borrow returns an empty event, for an Emit. The caller calls Return afterwards. So an event that
// is made once in the life of a connection neither takes memory for that long nor leaves garbage.
func Borrow() *Event { return events.Get().(*Event) }

// Return ends the use of an event that Borrow has returned.
func (e *Event) Return() {
	*e = Event{}
	events.Put(e)
}

// Head has more of a request's head, for traces and access logs. The values are as the client sent
// them, up to MaxHeadValue bytes.
type Head struct{ Version, UserAgent, Referer string }

// MaxHeadValue is the largest value of a Head, in bytes.
const MaxHeadValue = 1 << 10

// Wire returns the leg that leads to the other node, or to the other pod of this node: the
// server's of an outbound connection, the client's of an inbound one.
func (l *Legs) Wire(d mesh.Direction) *Leg {
	if d == mesh.Inbound {
		return &l.Client
	}
	return &l.Server
}

// Success classifies a ResponseEnd or ConnClose as Linkerd does. Failures are
// HTTP 5xx, the gRPC codes of GRPCFailure, resets, and failures with a Reason.
func (e *Event) Success() bool {
	if e.Reason != mesh.ReasonNone || e.Reset {
		return false
	}
	if e.GRPC {
		return !GRPCFailure(e.GRPCStatus)
	}
	return e.Status < 500
}

// GRPCFailure reports whether a gRPC code is a failure. The set is Linkerd's:
// UNKNOWN, DEADLINE_EXCEEDED, PERMISSION_DENIED, INTERNAL, UNAVAILABLE and
// DATA_LOSS. RESOURCE_EXHAUSTED is not in it, as 429 is no failure in HTTP.
func GRPCFailure(code int) bool {
	switch code {
	case 2, 4, 7, 13, 14, 15:
		return true
	}
	return false
}

// Sink takes events. Emit must not block and must not retain e.
type Sink interface{ Emit(e *Event) }

// Chooser is a Sink that needs not get all events: most requests make three, and most sinks
// look at one of them. Wants is called when the Hub is made.
type Chooser interface {
	Sink
	Wants(Kind) bool
}
