// Package request is what becomes of a request, whatever protocol it is of: what the
// routes plan for it, which endpoints are tried and when again, what is copied, and
// what tap is told.
package request

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/lifetime"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Observer takes tap events. Active reports whether they have a reader, beyond
// the metrics.
type Observer interface {
	tap.Sink
	Active() bool
}

// Core is what all sessions of a proxy share.
type Core struct {
	Upstream *upstream.Pool
	State    upstream.State
	Tap      Observer
	Log      *slog.Logger
	Lifetime *lifetime.Lifetime
	Mirrors  Mirrors

	retriesRefused atomic.Uint64
}

// RetriesRefused counts retries that a Service's budget did not allow.
func (c *Core) RetriesRefused() uint64 { return c.retriesRefused.Load() }

// Session is one client connection being proxied, from the moment its protocol
// is known. A driver (HTTP/1, HTTP/2, opaque) serves it to its end.
type Session struct {
	*Core

	ID        uint32    // unique on this agent; Base of its tap events
	Client    conn.Conn // the client's side, decrypted
	Head      []byte    // bytes already read from Client: the driver starts with them
	Direction mesh.Direction
	Source    tap.Peer       // the client
	Original  netip.AddrPort // where the client wanted to go
	TLS       string         // a tap.TLS value: inbound of the client's side, outbound until an endpoint is chosen
	SNI       string         // of foreign TLS
	Process   string         // name of the client's program (outbound only)
	Target    destination.Target
	Quota     *quota.Usage // of the pod on this node; nil: not bounded

	login atomic.Pointer[login] // nil: connections to endpoints are shared
	over  atomic.Bool           // the client's connection has ended
}

// Over notes that the client's connection has ended.
func (s *Session) Over() { s.over.Store(true) }

// ClientAddr implements upstream.Client.
func (s *Session) ClientAddr() netip.AddrPort { return s.Source.Addr }

// Usage implements upstream.Client.
func (s *Session) Usage() *quota.Usage { return s.Quota }

// KeepsConnections implements upstream.Client: a login is kept as long as its client
// is there.
func (s *Session) KeepsConnections() bool { return s.Bound() && !s.over.Load() }

// Pick chooses the endpoint of one request, none of exclude, where to sends it;
// nil: where the client wanted. It sets a, which is not in use. The error is a
// *mesh.ReasonError. Pick is for one goroutine at a time.
func (s *Session) Pick(a *endpoints.Attempt, to *destination.Backend, exclude ...netip.AddrPort) error {
	err := s.Target.Pick(a, destination.Query{
		Client: &s.Source, Session: s.ID, To: to, Exclude: exclude, Prefer: s.preferred(),
	})
	if s.Bound() {
		a.Private(s.ID)
	}
	return err
}

// Dial opens a connection to the chosen endpoint that speaks alpn inside the
// mesh (one of mtls.ALPN…). The error is a *mesh.ReasonError, which a notes.
func (s *Session) Dial(ctx context.Context, a *endpoints.Attempt, alpn string) (conn.Conn, error) {
	c, found, err := s.Upstream.Dial(ctx, &a.Endpoint, s.Source.Addr, alpn)
	a.Reached(&found)
	noteDial(ctx, a, err)
	return c, err
}

// IdleHTTP1 is a connection to the chosen endpoint for one HTTP/1 exchange that has
// become free, nil if there is none.
func (s *Session) IdleHTTP1(a *endpoints.Attempt) *upstream.HTTP1Conn {
	return s.Upstream.IdleHTTP1(&a.Endpoint, s)
}

// DialHTTP1 makes a connection to the chosen endpoint for HTTP/1 exchanges. A
// deadline of ctx bounds only how long it waits. The error is a *mesh.ReasonError,
// which a notes.
func (s *Session) DialHTTP1(ctx context.Context, a *endpoints.Attempt) (*upstream.HTTP1Conn, error) {
	c, err := s.Upstream.DialHTTP1(ctx, &a.Endpoint, s)
	noteDial(ctx, a, err)
	return c, err
}

func noteDial(ctx context.Context, a *endpoints.Attempt, err error) {
	if err != nil && ctx.Err() == nil && !upstream.OwnFault(err) { // else it was the caller that gave up
		a.Failed(upstream.ReasonOf(err))
	}
	a.Dialled()
}

// source is the client, as far as is known by now: at the start of an inbound
// session the controller may not have said yet whose address it is.
func (s *Session) source() tap.Peer {
	if s.Direction == mesh.Inbound && s.Source.Workload == nil {
		s.Source.Workload, _ = s.State.View().Workload(s.Source.Addr.Addr())
	}
	return s.Source
}

// Watched reports whether tap events have a reader now: only then are the strings of
// a request worth building.
func (s *Session) Watched() bool { return s.Tap.Active() }
