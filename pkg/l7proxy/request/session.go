// Package request has the steps of a request that do not depend on its protocol: the plan
// that the routes make, the choice of endpoints, failover, retries, mirrors, and the
// events for tap.
package request

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/lifetime"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// Observer receives tap events. Active reports whether a reader other than the metrics
// receives them. Headers returns how to collect header fields for the readers, or nil if
// none wants them.
type Observer interface {
	tap.Sink
	Active() bool
	Headers() *tap.Redaction
}

// Names knows by which name a pod of this node has resolved an address.
type Names interface {
	// Name returns the name, "" if there is none.
	Name(pod *mesh.Workload, addr netip.Addr) string
	// Answers returns what reads the bytes that a DNS server sends to the pod on one TCP
	// connection. nil: nobody wants names.
	Answers(pod *mesh.Workload) func(fromServer []byte)
}

// dnsPort is where DNS servers are asked.
const dnsPort = 53

// Answers returns what gets the bytes of a DNS server to which a pod of this node is connected
// over TCP, so that names are learnt from its answers. nil: the server is none, or nobody wants
// names. It costs time of the pod, and the names take the place of the pod's own.
func (s *Session) Answers() func(fromServer []byte) {
	if s.Original.Port() != dnsPort || s.Names == nil || s.Direction != mesh.Outbound || s.Source.Workload == nil {
		return nil
	}
	return s.Names.Answers(s.Source.Workload)
}

// Core has what all sessions of a proxy share.
type Core struct {
	Upstream    *upstream.Pool
	State       upstream.State
	Tap         Observer
	Log         *slog.Logger
	Lifetime    *lifetime.Lifetime
	Mirrors     Mirrors
	Authorizers Authorizers
	Paces       quota.Paces // of requests that clients give up
	Opaque      *lifetime.Group[*Opaque]
	Lot         *conn.Lot      // where connections wait that carry nothing; nil: nowhere
	Names       Names          // nil: none are known
	Hangups     *rawio.Hangups // of HTTP/2 connections that are read often; nil: they are not watched

	Sampling *mesh.TraceSampling // of pods that have none of their own; nil: nothing is traced
	Logged   func() bool         // whether there is an access log; nil: there is none

	retriesRefused atomic.Uint64
}

// RetriesRefused counts retries that the budget of a Service did not allow.
func (c *Core) RetriesRefused() uint64 { return c.retriesRefused.Load() }

// Opaque is an opaque connection that is being carried to an endpoint.
type Opaque struct {
	Session  *Session
	Endpoint *upstream.Endpoint
}

// Session is one client connection being proxied, from the moment its protocol
// is known. A driver (HTTP/1, HTTP/2, opaque) serves it to its end.
//
// It is made of layers, each of which embeds the one below it and knows none above:
// Connection, reporter. Session itself decides about requests, and chooses and reaches
// endpoints for them.
type Session struct{ reporter }

// reporter reports the connection to tap, and says what is to be traced and logged
// (connection.go, observe.go).
type reporter struct {
	Connection
	judged      atomic.Pointer[calls.Entry] // how the policies have decided about the connection; nil: there are none
	named       bool                        // dns is set
	dns         string                      // see resolved
	outsideName outsideName
}

// Connection is the connection of a session's client: what is known of it, and how it ends.
// The proxy sets its fields one by one: a composite literal would lie on the stack of the
// goroutine that serves the connection, which would then need a stack of twice the size.
type Connection struct {
	*Core

	ID        uint32    // unique on this agent; Base of its tap events
	Client    conn.Conn // the client's connection, decrypted
	Head      []byte    // bytes that were read from Client already: the driver starts with them
	Direction mesh.Direction
	Source    tap.Peer       // the client
	Original  netip.AddrPort // original destination: the address that the client connected to
	TLS       string         // a tap.TLS value: inbound that of the client's connection, outbound the initial value until an endpoint is chosen
	SNI       string         // server name of TLS that is not the mesh's
	Process   string         // name of the client's program (outbound only)
	Target    destination.Target
	Quota     *quota.Usage   // of the pod on this node; nil: no limits
	Task      fairshare.Task // of the goroutine that serves the session
	From      quota.Source   // what the client is counted as

	// EndClient ends the client's connection in order, after the requests that are under
	// way. The driver sets it; nil: the driver does that itself. It does not wait.
	EndClient func()

	// Said is what the client of an opaque connection has said. It is not changed once the
	// connection is carried.
	Said destination.Said

	loginState
	gone    atomic.Bool   // the client's connection has ended
	denied  atomic.Bool   // see Deny
	revoked atomic.Uint32 // why a session that was admitted is cut: a mesh.Reason
}

// Revoke cuts the client's connection, because a policy does not allow it any more: that of
// the server's pod, or an EgressNetwork. It may be called by any goroutine.
func (c *Connection) Revoke(why mesh.Reason) {
	c.revoked.Store(uint32(why))
	_ = c.Client.Reset()
}

// Deny notes that the client may not connect any more, whatever its requests are: its connection is
// to end. It reports whether that is new.
func (c *Connection) Deny() bool { return !c.denied.Swap(true) }

// Denied reports whether Deny was called.
func (c *Connection) Denied() bool { return c.denied.Load() }

// Ended returns why something of the session has ended: for reason, or because the session
// was revoked.
func (c *Connection) Ended(reason mesh.Reason) mesh.Reason {
	if why := mesh.Reason(c.revoked.Load()); why != mesh.ReasonNone {
		return why
	}
	return reason
}

// ClientGone records that the client's connection has ended.
func (c *Connection) ClientGone() { c.gone.Store(true) }

// ClientAddr implements upstream.Client.
func (c *Connection) ClientAddr() netip.AddrPort { return c.Source.Addr }

// Usage implements upstream.Client.
func (c *Connection) Usage() *quota.Usage { return c.Quota }

// Paired reports whether the client's connection and the endpoint's end together, because
// they stand for one connection. That is so for a login, and for a client that is no agent
// and has connected to this pod. Such a client finds another pod by connecting again, and
// nothing tells it that this one has ended: when the pod's network is removed, what its
// sockets send is lost. So it has to see what the application does with its connection, as
// without the mesh. An agent that is the client hears of the pod's end from the controller,
// and gets requests back that have reached no application.
func (c *Connection) Paired() bool {
	return c.HasLogin() || c.Direction == mesh.Inbound && c.TLS != tap.TLSTrue
}

// KeepsConnections implements upstream.Client: the connections of a pair are kept while
// the client's connection is open.
func (c *Connection) KeepsConnections() bool { return c.Paired() && !c.gone.Load() }

// ConnectionEnded implements upstream.Client.
func (c *Connection) ConnectionEnded() {
	if c.Paired() && c.EndClient != nil {
		c.EndClient()
	}
}

// Pick chooses the endpoint of one request among those of the backend to, or of the
// client's destination if to is nil. It chooses none of exclude. It sets a, which must be
// new. The error is a *mesh.ReasonError. Only one goroutine at a time may call Pick.
func (s *Session) Pick(a *endpoints.Attempt, to *destination.Backend, exclude ...netip.AddrPort) error {
	return s.pick(a, nil, nil, to, exclude...)
}

// PickFor is Pick for a request that the policies of a server on this node judge.
func (s *Session) PickFor(a *endpoints.Attempt, asked destination.Asker, to *destination.Backend, exclude ...netip.AddrPort) error {
	return s.pick(a, asked, nil, to, exclude...)
}

// pick is Pick; said is what the client of an opaque connection has said, nil for a request.
func (s *Session) pick(a *endpoints.Attempt, asked destination.Asker, said *destination.Said, to *destination.Backend, exclude ...netip.AddrPort) error {
	a.Judged, a.Rules = nil, nil // the attempt may have been used before
	q := destination.Query{
		Client: &s.Source, Session: s.ID, Backend: to, Exclude: exclude, Prefer: s.preferred(), Asked: asked, Opaque: said != nil,
	}
	if said != nil {
		q.Said = *said
	}
	err := s.Target.Pick(a, q)
	if s.HasLogin() {
		a.Private(s.ID)
	}
	a.Usage = s.Quota
	if said != nil && a.Judged != nil {
		s.judged.Store(a.Judged)
	}
	return err
}

// DialOpaque opens an opaque connection to the chosen endpoint. The error is a
// *mesh.ReasonError, which DialOpaque records in a.
func (s *Session) DialOpaque(ctx context.Context, a *endpoints.Attempt) (conn.Conn, error) {
	c, found, err := s.Upstream.DialOpaque(ctx, &a.Endpoint, s)
	a.Reached(&found)
	noteDial(ctx, a, err)
	return c, err
}

// IdleHTTP1 returns an idle pooled connection to the chosen endpoint for one HTTP/1
// exchange, or nil if there is none. held is that of upstream.HTTP1Conn.Open. last is the
// caller's.
func (s *Session) IdleHTTP1(a *endpoints.Attempt, held bool, last *upstream.IdleLists) *upstream.HTTP1Conn {
	c := s.Upstream.IdleHTTP1(&a.Endpoint, &s.Connection, held, last)
	if c != nil {
		s.Quota.Settle()
	}
	return c
}

// DialHTTP1 makes a connection to the chosen endpoint for HTTP/1 exchanges. ctx bounds
// how long the caller waits, not the dial. The error is a *mesh.ReasonError, which
// DialHTTP1 records in a.
func (s *Session) DialHTTP1(ctx context.Context, a *endpoints.Attempt) (*upstream.HTTP1Conn, error) {
	c, err := s.Upstream.DialHTTP1(ctx, &a.Endpoint, &s.Connection)
	noteDial(ctx, a, err)
	if err == nil {
		s.Quota.Settle() // it may be a stream of a shared connection
	}
	return c, err
}

func noteDial(ctx context.Context, a *endpoints.Attempt, err error) {
	if err != nil && ctx.Err() == nil && !upstream.LocalFault(err) { // otherwise the caller gave up, or this node failed
		a.Failed(upstream.ReasonOf(err))
	}
	a.Dialled()
}

// Turns returns the session's Task for the connections that its goroutine uses, or nil if
// the session has none.
func (c *Connection) Turns() rawio.Turns {
	if c.Task.Account() == nil {
		return nil
	}
	return &c.Task
}

// source returns the client. It looks up the workload of an inbound client again if it
// was not known before: the controller may have answered meanwhile.
func (c *Connection) source() tap.Peer {
	if c.Direction == mesh.Inbound && c.Source.Workload == nil {
		c.Source.Workload, _ = c.State.View().Workload(c.Source.Addr.Addr())
	}
	return c.Source
}

// TapActive reports whether tap events have a reader now. If not, the strings of a
// request need not be built.
func (r *reporter) TapActive() bool { return r.Tap.Active() }
