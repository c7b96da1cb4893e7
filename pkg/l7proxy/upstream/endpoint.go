package upstream

import (
	"net/netip"

	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Mode is how an endpoint is reached.
type Mode uint8

// The modes.
const (
	Plaintext Mode = iota // outside the mesh: as the application itself would connect
	SameNode              // in the endpoint's network namespace on this node; policy was decided here
	MTLS                  // by mutual TLS to the agent of the endpoint's node
)

// TLS returns the mode as a value of tap's field tls.
func (m Mode) TLS() string {
	switch m {
	case SameNode:
		return tap.TLSSameNode
	case MTLS:
		return tap.TLSTrue
	}
	return tap.TLSNoIdentity
}

// Key identifies the connections that a request may use: only requests of one client
// workload to one endpoint under one server identity share a connection.
type Key struct {
	Source   string // UID of the client workload
	Session  uint32 // not 0: only this session may use the connection
	Identity mesh.Identity
	Addr     netip.AddrPort
}

// Endpoint is where a request or a connection goes, and how.
type Endpoint struct {
	Key    Key
	Peer   tap.Peer       // the endpoint, at the address that its service names
	Client *mesh.Workload // outbound: the client's pod; inbound nil
	Mode   Mode
	// Fallback allows plaintext while the server's agent is away.
	Fallback bool
	// HasOthers is set if there are other endpoints to try: connecting is given less
	// time then.
	HasOthers bool
	// Usage is charged with the descriptor of a connection that is made. nil: it is not
	// counted.
	Usage *quota.Usage
	// Balanced is set if a balancer has chosen the endpoint.
	Balanced bool
	// Took has the times of the last dial to the endpoint. The dial sets it; it is zero
	// before, and if a request uses a connection that was there.
	Took Took
}

// Result is what a dial has found out about the endpoint.
type Result struct {
	TLS  string   // a tap.TLS value
	Peer tap.Peer // the endpoint, at the address where it was reached
	ALPN string   // what the endpoint's agent chose; "" without an agent
}

// Expected returns the result that a dial has if nothing unexpected happens.
func (e *Endpoint) Expected() Result { return Result{TLS: e.Mode.TLS(), Peer: e.Peer} }

// Client is the client that a connection is made for.
type Client interface {
	// ClientAddr returns the client's address, as an application on this node sees it.
	ClientAddr() netip.AddrPort
	// Usage returns what is charged with the bytes that wait for a receiver. nil: they
	// are not counted.
	Usage() *quota.Usage
	// KeepsConnections reports whether connections that are private to the client stay
	// open while they are idle.
	KeepsConnections() bool
	// ConnectionEnded is called when an endpoint has ended an HTTP/2 connection that is
	// private to the client, or takes no further request on it. It must not wait. It may
	// be called more than once for a connection.
	ConnectionEnded()
}

// Private makes the connections of the endpoint private to one session.
func (e *Endpoint) Private(session uint32) { e.Key.Session = session }
