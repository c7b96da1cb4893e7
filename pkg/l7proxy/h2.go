package l7proxy

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
)

// h2server is the client's side of a session: the engine accepts streams, and
// each becomes an h2stream.
type h2server struct {
	*h2conn
	session *Session
	pool    *h2Pool

	picking sync.Mutex // Session.Pick is for one goroutine at a time
	private []PoolKey  // keys used that no other session has

	deadlines h2deadlines

	// Of the server of a copy, which has no h2conn.
	mirror *place      // where it goes; nil: there is a client
	unhook func() bool // from the end of the proxy
}

// serveHTTP2 proxies an HTTP/2 connection to its end. When ctx is done it drains:
// streams in progress are finished, no new ones accepted.
func (s *Session) serveHTTP2(ctx context.Context) {
	srv := &h2server{h2conn: newH2Conn(s.Client, http2.Config{Role: http2.Server, ConnectProtocol: true}), session: s, pool: &s.proxy.h2}
	srv.pool.enter(srv)
	defer srv.pool.leave(srv)
	stop := context.AfterFunc(ctx, srv.drain)
	defer stop()
	go srv.flush()
	err := srv.read(srv, s.Head)
	reason := endReason(err)
	if reason == mesh.ReasonOverload {
		srv.pool.floods.Add(1)
	}
	if reason != mesh.ReasonClientReset {
		s.tellFailure(nil, mesh.Fail(reason, err)) // there may be no stream to tell of it
	}
	var b h2batch
	for _, st := range srv.takeStreams() {
		st.clientGone(reason, http2.Cancel, &b)
	}
	b.flush()
	srv.stopLooking()
	srv.end()
	s.over.Store(true)
	srv.pool.dropKeys(srv.private)
}

func (srv *h2server) event(ev *http2.Event, b *h2batch) {
	switch ev.Kind {
	case http2.EventHeaders:
		if ev.Trailers {
			if st := srv.stream(ev.Stream); st != nil {
				st.clientTrailers(ev.Fields, b)
			}
			return
		}
		st := newH2Stream(srv, ev.Stream)
		srv.mu.Lock()
		srv.streams[ev.Stream] = st
		srv.mu.Unlock()
		st.begin(ev, b)
	case http2.EventMalformed:
		srv.malformed(ev, b)
	case http2.EventData:
		if st := srv.stream(ev.Stream); st != nil {
			st.clientData(ev.Payload, ev.EndStream, b)
		} else {
			srv.mu.Lock()
			srv.engine.Consume(ev.Stream, len(ev.Payload))
			srv.mu.Unlock()
		}
	case http2.EventReset:
		if st := srv.stream(ev.Stream); st != nil {
			reason, code := mesh.ReasonClientReset, ev.Code
			if ev.Local {
				reason, code = mesh.ReasonBadRequest, http2.Cancel
			}
			st.clientGone(reason, code, b)
		}
	case http2.EventWindowOpened:
		if ev.Stream == 0 {
			srv.resume(b)
		} else if st := srv.stream(ev.Stream); st != nil {
			st.pushResponse(b)
		}
	}
}

// pick is Session.Pick for any goroutine. With an address in not, another
// endpoint is preferred; else the choice is made in the memory at into.
func (srv *h2server) pick(to *place, not netip.AddrPort, into *Choice) (c *Choice, err error) {
	srv.picking.Lock()
	defer srv.picking.Unlock()
	if srv.mirror == nil && srv.session.bound() {
		srv.lookAtOwn()
	}
	if not.IsValid() {
		c, err = srv.session.pickOther(to, not)
	} else {
		c, err = into, srv.session.PickInto(into, to)
	}
	if err == nil {
		srv.noteKey(c.Key)
	}
	return c, err
}

// another is Session.another for any goroutine.
func (srv *h2server) another(failed *Choice, why mesh.Reason, tried *attempts) *Choice {
	srv.picking.Lock()
	defer srv.picking.Unlock()
	c := srv.session.another(failed, why, tried)
	if c != nil {
		srv.noteKey(c.Key)
	}
	return c
}

func (srv *h2server) noteKey(key PoolKey) {
	if key.Session != 0 && !slices.Contains(srv.private, key) {
		srv.private = append(srv.private, key)
	}
}
