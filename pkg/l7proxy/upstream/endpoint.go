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
	Plaintext Mode = iota // outside the mesh: as the application would have
	SameNode              // into its namespace on this node; policy was decided here
	MTLS                  // by mutual TLS to its node's agent
)

// TLS is the mode as tap has it.
func (m Mode) TLS() string {
	switch m {
	case SameNode:
		return tap.TLSSameNode
	case MTLS:
		return tap.TLSTrue
	}
	return tap.TLSNoIdentity
}

// Key says which connections may carry whose requests: a connection is shared only
// by requests of one client workload to one endpoint under one server identity.
type Key struct {
	Source   string // UID of the client workload
	Session  uint32 // non-zero: private to one session
	Identity mesh.Identity
	Addr     netip.AddrPort
}

// Endpoint is where a request or a connection goes, and how.
type Endpoint struct {
	Key    Key
	Peer   tap.Peer       // the endpoint, at the address that its service names
	Client *mesh.Workload // outbound: the client's pod; inbound nil
	Mode   Mode
	// Fallback to plaintext is allowed where the server's agent is away.
	Fallback bool
	// HasOthers: there are other endpoints to try, so that a dead one may cost
	// less time.
	HasOthers bool
	// Balanced: the endpoint was chosen among others, or could have been.
	Balanced bool
}

// Result is what a dial has found.
type Result struct {
	TLS  string   // a tap.TLS value
	Peer tap.Peer // the endpoint, at the address where it was reached
	ALPN string   // what the endpoint's agent chose; "" without one
}

// Expected is the result as it is when nothing unexpected happens.
func (e *Endpoint) Expected() Result { return Result{TLS: e.Mode.TLS(), Peer: e.Peer} }

// Client is whom a connection is made for.
type Client interface {
	// ClientAddr is the client's address, which an application on this node sees.
	ClientAddr() netip.AddrPort
	// Usage is charged with what waits for a receiver; nil: nothing is.
	Usage() *quota.Usage
	// KeepsConnections reports whether connections that are private to the client
	// are kept, idle as they may be.
	KeepsConnections() bool
}

// Private makes Key private to one session.
func (e *Endpoint) Private(session uint32) { e.Key.Session = session }
