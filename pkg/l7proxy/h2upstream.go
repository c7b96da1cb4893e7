package l7proxy

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/tap"
)

// h2upstream is a pooled connection to an endpoint, with streams of many
// clients' connections on it.
type h2upstream struct {
	*h2conn
	pool *h2Pool
	key  PoolKey
	tls  string         // what the dial found: Choice.TLS
	peer tap.Peer       // and Choice.Peer
	at   netip.AddrPort // and Choice.reached
	of   *Session       // whose alone it is, nil if it is shared

	unsettled []h2waiter // for the endpoint's settings; mu guards them
	idleSince time.Time  // of a connection without streams; mu guards it
	idleTimer *time.Timer
}

// h2dial is a connection being made, and the streams that wait for it.
type h2dial struct {
	waiters []h2waiter // h2Pool.mu guards it
}

// h2waiter is an attempt of a stream that waits for a connection. The stream may
// have given it up meanwhile.
type h2waiter struct {
	stream  *h2stream
	attempt int32
}

func (st *h2stream) waiter() h2waiter { return h2waiter{st, st.attempt} }

// dial connects to the endpoint that choice names and puts the waiters' streams
// on the connection. balanced: there are other endpoints, maybe.
func (p *h2Pool) dial(s *Session, choice *Choice, balanced bool, d *h2dial) {
	// Not the first client's context: others wait for the connection as well.
	nc, err := s.Dial(context.Background(), choice, mtls.ALPNHTTP2)
	if balanced && err != nil && !ownFault(err) && elsewhere(reasonOf(err)) {
		s.proxy.absent(choice, reasonOf(err), nil) // the requests that waited may be over by now
	}
	var u *h2upstream
	if err == nil {
		u = &h2upstream{
			h2conn: newH2Conn(nc, http2.Config{Role: http2.Client, ConnWindow: h2UpstreamWindow}), pool: p,
			key: choice.Key, tls: choice.TLS, peer: choice.Peer, at: choice.reached, idleSince: time.Now(),
		}
		if choice.Key.Session != 0 {
			u.of = s
		}
		if u.tls == tap.TLSAgentDown { // not for longer than the agent is thought to be away
			time.AfterFunc(s.proxy.Limits.AgentDownMemory, u.retire)
		}
	}
	var b h2batch
	for _, w := range p.dialled(choice.Key, d, u) {
		w.stream.connected(w.attempt, u, err, &b)
	}
	b.flush()
	if u != nil {
		// Not before: a connection that ends at once must find itself in the
		// pool, to take itself out, and its streams, to tell them.
		go u.serve(s.proxy.Limits.IdleTimeout)
		if p.ends() { // nobody else would end it
			u.drain()
		}
	}
}

func (u *h2upstream) serve(idleTimeout time.Duration) {
	u.mu.Lock()
	u.idleTimer = time.AfterFunc(idleTimeout, func() { u.closeIfIdle(idleTimeout) })
	u.mu.Unlock()
	defer u.idleTimer.Stop()
	go u.flush()
	err := u.read(u, nil)
	u.pool.remove(u)
	reason := readReason(err)
	if broken := new(http2.ConnError); errors.As(err, &broken) {
		reason = mesh.ReasonBadResponse
	}
	var b h2batch
	for _, st := range u.takeStreams() {
		st.serverGone(u, reason, &b)
	}
	for _, w := range u.takeUnsettled() {
		w.stream.connected(w.attempt, u, mesh.Fail(reason, err), &b)
	}
	b.flush()
	u.end()
}

// closeIfIdle closes the connection when it has had no stream for limit, and
// looks again when that may be. A login is kept as long as its client is there.
func (u *h2upstream) closeIfIdle(limit time.Duration) {
	kept := u.of != nil && u.of.bound() && !u.of.over.Load()
	u.mu.Lock()
	left := limit
	if len(u.streams) == 0 && !kept {
		left = limit - time.Since(u.idleSince)
	}
	if left > 0 {
		u.idleTimer.Reset(left)
		u.mu.Unlock()
		return
	}
	u.engine.Drain()
	u.mu.Unlock()
	u.pool.remove(u)
	u.wake.Signal()
}

// retire takes the connection out of use: its streams are finished.
func (u *h2upstream) retire() {
	u.pool.remove(u)
	u.drain()
}

// open starts st's request on the connection. The error is the engine's:
// http2.ErrTooManyStreams, ErrGoingAway, ErrHeaderTooLarge, ErrNoConnectProtocol,
// or ErrNoSettings: connected is called for st as soon as they are there.
func (u *h2upstream) open(st *h2stream, b *h2batch) (uint32, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return 0, http2.ErrGoingAway
	}
	id, err := u.engine.OpenStream(st.fields, st.bodyless)
	if err != nil {
		if errors.Is(err, http2.ErrNoSettings) {
			u.unsettled = append(u.unsettled, st.waiter())
		}
		return 0, err
	}
	u.streams[id] = st
	b.add(u.h2conn)
	return id, nil
}

func (u *h2upstream) takeUnsettled() []h2waiter {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.unsettled
	u.unsettled = nil
	return all
}

// leave takes a stream off the connection.
func (u *h2upstream) leave(id uint32, b *h2batch) {
	u.mu.Lock()
	delete(u.streams, id)
	if len(u.streams) == 0 {
		u.idleSince = time.Now()
	}
	u.mu.Unlock()
	b.add(u.h2conn) // its flusher closes a drained connection after the last stream
}

func (u *h2upstream) event(ev *http2.Event, b *h2batch) {
	switch {
	case ev.Kind == http2.EventGoAway:
		u.pool.remove(u)
		return
	case ev.Kind == http2.EventSettings:
		for _, w := range u.takeUnsettled() {
			w.stream.connected(w.attempt, u, nil, b)
		}
		return
	}
	if ev.Kind == http2.EventWindowOpened && ev.Stream == 0 {
		u.resume(b)
		return
	}
	st := u.stream(ev.Stream)
	if st == nil {
		if ev.Kind == http2.EventData {
			u.mu.Lock()
			u.engine.Consume(ev.Stream, len(ev.Payload))
			u.mu.Unlock()
		}
		return
	}
	switch ev.Kind {
	case http2.EventHeaders:
		st.serverHeaders(u, ev, b)
	case http2.EventData:
		st.serverData(u, ev, b)
	case http2.EventReset:
		st.serverReset(u, ev, b)
	case http2.EventWindowOpened:
		st.pushRequest(b)
	}
}
