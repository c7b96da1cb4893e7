package l7proxy

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Conn is a byte stream: a plain connection (*rawio.Conn) or an mTLS one
// (*secureConn). At most one goroutine reads and one writes at a time.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Session is one client connection being proxied, from the moment its protocol
// is known. A driver (HTTP/1, HTTP/2, opaque) serves it to its end.
type Session struct {
	proxy *Proxy

	ID        uint32 // unique on this agent; Base of its tap events
	Client    Conn   // the client's side, decrypted
	Head      []byte // bytes already read from Client: the driver starts with them
	Direction mesh.Direction
	Source    tap.Peer       // the client
	Original  netip.AddrPort // where the client wanted to go
	TLS       string         // a tap.TLS value: inbound of the client's side, outbound until an endpoint is chosen
	SNI       string         // of foreign TLS
	Process   string         // name of the client's program (outbound only)

	target target
	use    *podUse               // of the pod on this node; nil: not bounded
	login  atomic.Pointer[login] // nil: connections to endpoints are shared
	over   atomic.Bool           // HTTP/2: the client's connection has ended
	opaque bool                  // somebody said that the bytes are not to be looked into
}

// target says where the requests of a session go.
type target interface {
	// pick chooses the endpoint of one request or connection, none of exclude:
	// it sets c. to is where routes send it, nil if they do not say. The error is
	// a *mesh.ReasonError: no endpoint, or the policy of a same-node server.
	pick(s *Session, c *Choice, to *place, exclude []netip.AddrPort) error
	// dial opens a connection to a chosen endpoint.
	dial(ctx context.Context, s *Session, c *Choice, alpn string) (Conn, error)
	// service is the apex service, nil where the destination is none.
	service() *mesh.Service
}

// PoolKey says which connections may carry whose requests: a connection is
// shared only by requests of one client workload to one endpoint under one
// server identity.
type PoolKey struct {
	Source   string // UID of the client workload
	Session  uint32 // non-zero: private to one session
	Identity mesh.Identity
	Addr     netip.AddrPort
}

// Choice is the endpoint chosen for one request.
type Choice struct {
	Key  PoolKey
	Peer tap.Peer // the endpoint
	TLS  string   // a tap.TLS value; final once the connection is there
	// reached is the address that it was reached at, if not Peer's: the pod's of the
	// other family.
	reached netip.AddrPort

	// mayFallBack to plaintext, where the server's agent is away.
	mayFallBack bool
	// failover: there are other endpoints to try, so that a dead one may cost
	// less time.
	failover bool

	from *mesh.Workload // outbound: the client
	way  way
	load load
}

// Pick chooses the endpoint of one request, none of exclude, where to sends it;
// nil: where the client wanted. The error is a *mesh.ReasonError.
func (s *Session) Pick(to *place, exclude ...netip.AddrPort) (*Choice, error) {
	c := new(Choice)
	if err := s.pick(c, to, exclude); err != nil {
		return nil, err
	}
	return c, nil
}

// PickInto is Pick with the caller's memory: no request has used c, or it is
// Done.
func (s *Session) PickInto(c *Choice, to *place) error { return s.pick(c, to, nil) }

func (s *Session) pick(c *Choice, to *place, exclude []netip.AddrPort) error {
	err := s.target.pick(s, c, to, exclude)
	if s.bound() {
		c.Key.Session = s.ID
	}
	return err
}

// Dial opens a connection to the chosen endpoint that speaks alpn inside the
// mesh (one of mtls.ALPN…): TCP and, between nodes, mTLS are done when it
// returns, and c.TLS is final. The error is a *mesh.ReasonError, which c notes.
// Bounded by the proxy's connect timeout.
func (s *Session) Dial(ctx context.Context, c *Choice, alpn string) (Conn, error) {
	conn, err := s.target.dial(ctx, s, c, alpn)
	if err != nil && ctx.Err() == nil && !ownFault(err) { // else it was the caller that gave up
		c.failed(reasonOf(err))
	}
	c.dialled()
	return conn, err
}

// source is the client, as far as is known by now: at the start of an inbound
// session the controller may not have said yet whose address it is.
func (s *Session) source() tap.Peer {
	if s.Direction == mesh.Inbound && s.Source.Workload == nil {
		s.Source.Workload, _ = s.proxy.State.View().Workload(s.Source.Addr.Addr())
	}
	return s.Source
}

// destination is where the session goes, as far as is known before an endpoint
// is chosen: a request that is refused before has no other.
func (s *Session) destination() tap.Peer {
	d := tap.Peer{Addr: s.Original}
	switch t := s.target.(type) {
	case *inboundTarget:
		local := t.local.Load()
		d.Workload, d.Identity = local, local.Identity
	case *outboundTarget:
		d.Workload = t.known.Load().pod
	}
	return d
}

// Watched reports whether anybody reads tap events now: only then are the
// strings of a request worth building.
func (s *Session) Watched() bool { return s.proxy.Tap.Active() }
