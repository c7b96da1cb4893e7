package upstream

import (
	"context"
	"maps"
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
)

const (
	// muxConnsPerKey bounds the shared connections to an endpoint. Further HTTP/1
	// connections are dedicated. So many have streams for all connections that a pod may
	// have open, by default 10,000.
	muxConnsPerKey = 160
	// muxFrom is how many connections to an endpoint are dedicated before others are
	// shared: with little traffic, dedicated ones cost less.
	muxFrom = 4
	// unsupportedMemory is how long the pool remembers that a peer does not support shared
	// connections: an agent of an older version, or an application whose agent is away.
	unsupportedMemory = 5 * time.Second
	// muxTries is how many connections a caller waits for. A peer that drains accepts
	// connections, but no streams.
	muxTries = 8
)

// muxPool holds the shared connections to agents.
type muxPool struct {
	pool[*mux.Conn, *muxWaiter]
	owner   *Pool
	alpn    string // one of mtls.ALPN…
	connect func(ctx context.Context, ep *Endpoint) (conn.Conn, Result, error)

	// mu guards these as well.
	unsupportedUntil map[Key]time.Time // when to try again whether peers support sharing
}

// muxWaiter is a caller that waits for a dial.
type muxWaiter struct {
	open func(*mux.Conn) *mux.Stream
	done chan muxDialled // of capacity 1
	gone bool            // the caller has given up; the pool's mu guards it
}

// muxDialled is the outcome of a dial for one of those that waited for it.
type muxDialled struct {
	stream  *mux.Stream // nil without an error, and no other connection: the caller looks again
	conn    *mux.Conn   // of stream
	instead conn.Conn   // a dedicated connection, if the peer supports no shared ones
	result  Result      // of instead
	err     error
	took    Took
}

func (p *muxPool) init(owner *Pool, alpn string) {
	p.owner, p.alpn = owner, alpn
	p.connect = func(ctx context.Context, ep *Endpoint) (conn.Conn, Result, error) {
		return owner.dialMesh(ctx, ep, alpn)
	}
	p.unsupportedUntil = make(map[Key]time.Time)
}

// kind is what the streams are.
func (p *muxPool) kind() mux.Kind {
	if p.alpn == mtls.ALPNStreams {
		return mux.Opaque
	}
	return mux.HTTP1
}

// ending reports whether the proxy retires: no connection is shared any more.
func (p *muxPool) ending() bool { return p.owner.Lifetime.Retiring.Err() != nil }

// reserve reports whether the next connection for key is to be dedicated, because there
// are few of them. If so, the caller must call release when the dial has ended.
func (p *muxPool) reserve(key Key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sharesLocked(key) {
		return false
	}
	p.owner.dedicated.enter(key)
	return true
}

func (p *muxPool) release(key Key) { p.owner.dedicated.leave(key) }

// shares reports whether the next connection for key is to be shared.
func (p *muxPool) shares(key Key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sharesLocked(key)
}

func (p *muxPool) sharesLocked(key Key) bool {
	if p.owner.dedicated.to(key) < muxFrom || p.ending() {
		return false
	}
	return !p.unsupported(key)
}

func (p *muxPool) unsupported(key Key) bool {
	until, known := p.unsupportedUntil[key]
	return known && time.Now().Before(until)
}

// stream returns a stream of a shared connection to ep. If none has room, one is made for
// each mux.MaxStreams callers that wait. stream returns nil without an error if the peer does
// not support sharing, or if there are muxConnsPerKey connections already.
func (p *muxPool) stream(ctx context.Context, ep *Endpoint, account *fairshare.Account) (*mux.Stream, error) {
	d, err := p.openStream(ctx, ep, account, (*mux.Conn).Open)
	return d.stream, err
}

// openStream is stream with the connection of the stream, or the dedicated connection that was
// made instead of a shared one. open opens the stream.
func (p *muxPool) openStream(ctx context.Context, ep *Endpoint, account *fairshare.Account, open func(*mux.Conn) *mux.Stream) (muxDialled, error) {
	for range muxTries {
		opened, w := p.openOrWait(ctx, ep, account, open)
		if w == nil {
			return opened, nil
		}
		select {
		case d := <-w.done:
			ep.Took = d.took
			if d.err != nil || d.stream != nil || d.instead != nil {
				return d, d.err
			}
		case <-ctx.Done():
			p.leave(w)
			return muxDialled{}, mesh.Fail(mesh.ReasonConnectTimeout, ctx.Err())
		}
	}
	return muxDialled{}, nil
}

// openOrWait opens a stream of a connection that has room. Otherwise it returns a waiter for
// a dial, or neither where the caller needs a dedicated connection.
func (p *muxPool) openOrWait(ctx context.Context, ep *Endpoint, account *fairshare.Account, open func(*mux.Conn) *mux.Stream) (muxDialled, *muxWaiter) {
	key := ep.Key
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns[key] {
		if s := open(c); s != nil {
			return muxDialled{stream: s, conn: c}, nil
		}
	}
	if p.unsupported(key) || p.ending() {
		return muxDialled{}, nil
	}
	w := &muxWaiter{open: open, done: make(chan muxDialled, 1)}
	if p.join(key, w, mux.MaxStreams) {
		return muxDialled{}, w
	}
	if p.size(key) >= muxConnsPerKey {
		return muxDialled{}, nil
	}
	// Without the first caller's cancellation: others wait for it as well.
	go p.dial(context.WithoutCancel(ctx), *ep, account, p.begin(key, w))
	return muxDialled{}, w
}

// leave gives up waiting. What has come meanwhile is closed.
func (p *muxPool) leave(w *muxWaiter) {
	p.mu.Lock()
	w.gone = true
	p.mu.Unlock()
	select {
	case d := <-w.done:
		switch {
		case d.stream != nil:
			_ = d.stream.Close()
		case d.instead != nil:
			d.instead.Close()
		}
	default: // the dial sees that nobody waits
	}
}

// dial makes a shared connection and carries it to its end.
func (p *muxPool) dial(ctx context.Context, ep Endpoint, account *fairshare.Account, d *dial[*muxWaiter]) {
	c, result, err := p.connect(ctx, &ep)
	var m *mux.Conn
	var instead conn.Conn
	p.mu.Lock()
	waiters := p.dialled(ep.Key, d)
	switch {
	case err != nil:
	case result.ALPN == p.alpn && !p.ending():
		m = mux.NewClient(p.kind(), c, account, func() { p.remove(ep.Key, m) })
		m.Budget, m.Proof, m.Hangups = ep.Usage, p.owner.proof(&ep, c), p.owner.Hangups
		p.add(ep.Key, m)
	default:
		p.unsupportedUntil[ep.Key] = time.Now().Add(unsupportedMemory)
		instead = c
	}
	for _, w := range waiters {
		if w.gone {
			continue
		}
		outcome := muxDialled{err: err, took: ep.Took}
		switch {
		case m != nil:
			outcome.stream, outcome.conn = w.open(m), m // no stream if others were faster
		case p.alpn == mtls.ALPNStreams && result.ALPN != p.alpn:
			outcome.instead, outcome.result, instead = instead, result, nil
		}
		w.done <- outcome
	}
	p.mu.Unlock()
	if instead != nil {
		instead.Close() // it is of use to nobody
	}
	if m != nil {
		var l *leg
		if p.alpn == mtls.ALPNMux { // opaque connections are reported by themselves
			l = p.owner.opened(c.Raw(), &ep, &result, netip.AddrPort{}, "http1")
		}
		_ = m.Run(nil)
		p.remove(ep.Key, m)
		m.End()
		l.closed()
	}
}

// closeIdle ends the connections that have had no stream for limit, and forgets which
// peers did not support sharing when that is long ago.
func (p *muxPool) closeIdle(limit time.Duration) {
	p.mu.Lock()
	maps.DeleteFunc(p.unsupportedUntil, func(_ Key, until time.Time) bool { return time.Now().After(until) })
	p.mu.Unlock()
	for _, c := range p.sweep(func(c *mux.Conn) bool { return c.IdleFor() > limit }) {
		c.Drain()
	}
}

// drain ends each connection after its last stream.
func (p *muxPool) drain() {
	for _, c := range p.sweep(func(*mux.Conn) bool { return true }) {
		c.Drain()
	}
}
