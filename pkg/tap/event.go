// Package tap carries events of the data path to their readers. Events from the
// proxy and from the kernel go through a bounded fan-out (Hub) to tap, top,
// metrics and the access log. A slow reader loses events and is told how many.
// It never slows traffic.
package tap

import (
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// Kind is what an Event reports.
type Kind uint8

const (
	RequestInit  Kind = iota + 1 // request head seen
	ResponseInit                 // response head seen
	ResponseEnd                  // response complete, reset, or synthesised
	ConnOpen                     // proxied opaque connection opened, or kernel: connection established
	ConnClose                    // such a connection closed or failed; failures carry a Reason
)

// Origin is the source of an Event.
type Origin uint8

const (
	FromProxy  Origin = iota
	FromKernel        // ring-buffer event: a connection that no proxy carries
)

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
// ResponseEnd); a connection makes ConnOpen and ConnClose. Each has all fields
// that are known by then. A ConnClose without Duration reports a connection that
// was never open. The request's strings may be empty if there is no reader
// (Hub.Active is false).
//
// A Sink must not keep a pointer to an Event after Emit returns.
type Event struct {
	Kind      Kind
	Origin    Origin
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

	Status     int  // HTTP status
	GRPC       bool // the call is gRPC: GRPCStatus is meaningful on ResponseEnd
	GRPCStatus int
	Reset      bool   // stream or connection was reset
	ResetCode  uint32 // HTTP/2 error code

	Latency  time.Duration // request head to response head
	Duration time.Duration // request head to response end; lifetime of a connection
	// Bytes read from and written to the source's side. For HTTP, WriteBytes
	// is the length of the response body and ReadBytes of the request body.
	ReadBytes, WriteBytes uint64

	Reason mesh.Reason // why the proxy or the kernel made it fail; ReasonNone on success

	Process string // command name of the pod's program, up to 15 bytes; "" for proxied inbound

	// Kernel events only.
	SRTT        time.Duration // smoothed round-trip time at close
	Retransmits uint32
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
