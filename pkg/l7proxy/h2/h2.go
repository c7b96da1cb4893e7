// Package h2 drives HTTP/2: it forwards streams between a client's connection and
// connections to endpoints, which the streams of many clients share.
//
// Goroutines are those of package h2conn: the reader of one connection writes into the
// engine of the other. Delays, timeouts and the waits before retries are timers
// (timer.go). Bytes of the stream that arrive meanwhile wait in its pipe.
//
// Locks are taken in this order: stream.mu, the mu of a copy of that stream (mirror.go),
// then either a connection's lock or the pool's.
//
// Back-pressure: bytes of a stream that the other side does not take yet wait in the
// stream's pipe. Their window is returned to the sender when they leave the pipe, so a
// stream holds at most one receive window.
package h2

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/lifetime"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Driver serves HTTP/2 sessions.
type Driver struct {
	sessions *lifetime.Group[*session]
	floods   atomic.Uint64
	paced    atomic.Uint64
}

// New makes a driver.
func New(core *request.Core) *Driver {
	return &Driver{sessions: lifetime.NewGroup(core.Lifetime.Draining, func(srv *session) { srv.Drain() })}
}

// Floods counts the clients whose connection ended with ENHANCE_YOUR_CALM.
func (d *Driver) Floods() uint64 { return d.floods.Load() }

// Paced counts requests that clients gave up faster than they may: what the clients sent
// next was read later.
func (d *Driver) Paced() uint64 { return d.paced.Load() }

// Stats are the counts of what a driver serves.
type Stats struct {
	Sessions int // clients' connections
	Streams  int // requests under way
	Retrying int // of Streams: those that wait for their next attempt
	// WatchingDeadlines counts the sessions that check the deadlines of calls.
	WatchingDeadlines int
}

// Stats counts what is served now.
func (d *Driver) Stats() (s Stats) {
	var streams []*stream
	d.sessions.Each(func(srv *session) {
		s.Sessions++
		streams = append(streams, srv.streams.All()...)
		srv.Lock()
		defer srv.Unlock()
		if srv.deadlines.watching {
			s.WatchingDeadlines++
		}
	})
	for _, st := range streams {
		s.Streams++
		st.mu.Lock()
		if st.retries.Count() > 0 && st.up == nil && st.timer != nil {
			s.Retrying++
		}
		st.mu.Unlock()
	}
	return s
}

// Each calls f for each session. f must not wait.
func (d *Driver) Each(f func(*request.Session)) {
	d.sessions.Each(func(srv *session) { f(srv.s) })
}

// CloseAll closes the clients' connections.
func (d *Driver) CloseAll() { d.sessions.Each(func(srv *session) { srv.NC.Close() }) }

// session is a client's connection. For each stream that its engine accepts, it has a
// stream.
type session struct {
	*h2conn.Conn
	driver  *Driver
	s       *request.Session
	streams h2conn.Streams[*stream]
	unread  quota.Charge // output that the client does not read; only the reader uses it

	picking sync.Mutex     // held for request.Session.Pick, which one goroutine at a time may call
	private []upstream.Key // keys of connections that only this session uses

	deadlines deadlines
}

// MaxStreams is the number of streams that a client may have open at once. Servers of gRPC
// set no limit, and a client whose streams stay open, as those of a watch do, would wait
// for one for ever. What bounds the memory is the number of streams of a pod (package
// quota).
const MaxStreams = 1024

// Serve proxies an HTTP/2 connection until it ends.
func (d *Driver) Serve(s *request.Session) {
	config := http2.Config{Role: http2.Server, ConnectProtocol: true, MaxStreams: MaxStreams, StreamWindow: http2.FirstStreamWindow}
	srv := &session{driver: d, s: s}
	if s.Direction == mesh.Inbound && s.TLS == tap.TLSTrue {
		// The client's agent: it has held each of its clients to the limits, and many
		// of them share the connection.
		config.Resets.Burst = -1
		// It makes another connection for more streams, which another thread carries.
		config.MaxStreams = http2.DefaultMaxStreams
	}
	// The window of the connection is that of all its streams, so that uploads that no
	// server reads never stop the client's other streams.
	config.ConnWindow = config.MaxStreams * http2.DefaultStreamWindow
	srv.Conn = h2conn.New(s.Client, config, &s.Task)
	srv.Budget, srv.Source, srv.Hangups = s.Quota, s.Quota, s.Hangups
	srv.streams = h2conn.NewStreams[*stream](srv.Conn)
	s.EndClient = srv.Drain
	d.sessions.Enter(srv)
	defer d.sessions.Leave(srv)
	if wait := s.Paces.Start(s.From, balance.Now()); wait > 0 {
		d.paced.Add(1)
		s.Hold(wait)
	}
	err := srv.Run(srv, s.Head)
	reason := EndReason(err)
	if reason == mesh.ReasonOverload {
		d.floods.Add(1)
	}
	if reason != mesh.ReasonClientReset {
		s.ReportFailure(nil, mesh.Fail(reason, err)) // there may be no stream to tell of it
	}
	var b h2conn.Batch
	vain := 0
	for _, st := range srv.streams.TakeAll() {
		if st.clientGone(reason, http2.Cancel, &b) {
			vain++
		}
	}
	b.Flush()
	// The client has given up these, too. Its source waits when it connects again.
	s.Paces.Add(s.From, balance.Now(), vain)
	srv.unread.Set(0, s.Quota)
	srv.stopLooking()
	s.ClientGone()
	s.Upstream.DropHTTP2(srv.private)
	srv.End()
}

// unreadFree is the output, in bytes, that a client may leave unread and is not charged to
// its pod: more than what DATA frames fill. It is looked at when a request begins, because
// only heads of responses make it larger.
const unreadFree = 128 << 10

// forget removes a stream; its later events are dropped.
func (srv *session) forget(id uint32, b *h2conn.Batch) {
	srv.Lock()
	srv.streams.Delete(id)
	srv.Unlock()
	b.Add(srv.Conn) // the flusher closes a drained connection after its last stream
}

// Event implements h2conn.Owner.
func (srv *session) Event(ev *http2.Event, b *h2conn.Batch) {
	switch ev.Kind {
	case http2.EventHeaders:
		if ev.Trailers {
			if st, ok := srv.streams.Get(ev.Stream); ok {
				st.clientTrailers(ev.Fields, b)
			}
			return
		}
		st := newStream(srv, ev.Stream)
		srv.Lock()
		srv.streams.Put(ev.Stream, st)
		unread := srv.Engine.OutputLen()
		srv.Unlock()
		if unread <= unreadFree {
			unread = 0
		}
		srv.unread.Set(unread, srv.s.Quota)
		st.begin(ev, b)
	case http2.EventMalformed:
		srv.malformed(ev, b)
	case http2.EventData:
		if st, ok := srv.streams.Get(ev.Stream); ok {
			st.clientData(ev.Payload, ev.EndStream, b)
		} else {
			srv.Consume(ev.Stream, len(ev.Payload))
		}
	case http2.EventReset:
		if ev.Vain {
			srv.gaveUp(b)
		}
		if st, ok := srv.streams.Get(ev.Stream); ok {
			reason, code := mesh.ReasonClientReset, ev.Code
			if ev.Local {
				reason, code = mesh.ReasonBadRequest, http2.Cancel
			}
			st.clientGone(reason, code, b)
		}
	case http2.EventWindowOpened:
		if st, ok := srv.streams.Get(ev.Stream); ok {
			st.pushResponse(b)
		}
	}
}

// gaveUp counts a request that the client has given up before its response began. Over
// the limit the client waits, and keeps its connection: most of those that give up so
// often have short deadlines, and a slow server.
func (srv *session) gaveUp(b *h2conn.Batch) {
	if wait := srv.s.Paces.Add(srv.s.From, balance.Now(), 1); wait > 0 {
		srv.driver.paced.Add(1)
		b.Pause(wait)
	}
}

// pick chooses an endpoint for a stream. If not is an address, it chooses another one than
// that if there is one.
func (srv *session) pick(st *stream, not netip.AddrPort) (a *endpoints.Attempt, err error) {
	srv.picking.Lock()
	defer srv.picking.Unlock()
	if st.mirrored == nil && srv.s.HasLogin() {
		srv.s.SetLoginEndpoints(srv.s.Upstream.HTTP2Endpoints(srv.private))
	}
	if not.IsValid() {
		a, err = srv.s.PickOther(st.to(), not)
	} else {
		a = &st.first
		err = srv.s.PickFor(a, (*asker)(st), st.to())
	}
	if err != nil {
		if a != nil {
			st.exchange.Judged(a.Judged)
		}
		return nil, err
	}
	if st.mirrored != nil && st.mirrored.forbidden(srv.s, a) { // the request was let out some time ago
		a.Done()
		return nil, mesh.Fail(mesh.ReasonEgressDenied, nil)
	}
	srv.noteKey(a.Key)
	return a, nil
}

// failover is request.Session.Failover, and safe for concurrent use.
func (srv *session) failover(failed *endpoints.Attempt, why mesh.Reason, tried *request.Tried) *endpoints.Attempt {
	srv.picking.Lock()
	defer srv.picking.Unlock()
	a := srv.s.Failover(failed, why, tried)
	if a != nil {
		srv.noteKey(a.Key)
	}
	return a
}

func (srv *session) noteKey(key upstream.Key) {
	if key.Session != 0 && !slices.Contains(srv.private, key) {
		srv.private = append(srv.private, key)
	}
}
