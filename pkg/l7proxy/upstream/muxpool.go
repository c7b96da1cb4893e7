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
	// connections are dedicated.
	muxConnsPerKey = 64
	// muxFrom is how many connections to an endpoint are dedicated before others are
	// shared: with little traffic, dedicated ones cost less.
	muxFrom = 4
	// unsupportedMemory is how long the pool remembers that a peer does not support shared
	// connections: an agent of an older version, or an application whose agent is away.
	unsupportedMemory = 5 * time.Second
	unboundedWaiters  = 1 << 30
)

// muxPool holds the shared connections to agents.
type muxPool struct {
	pool[*mux.Conn, chan muxDialled] // a waiter receives the outcome of the dial
	owner                            *Pool
	connect                          func(ctx context.Context, ep *Endpoint) (conn.Conn, Result, error)

	// mu guards these as well.
	reserved         map[Key]int       // dedicated connections that are being made
	unsupportedUntil map[Key]time.Time // when to try again whether peers support sharing
}

// muxDialled is the outcome of a dial.
type muxDialled struct {
	err  error
	took Took
}

func (p *muxPool) init(owner *Pool) {
	p.owner = owner
	p.connect = func(ctx context.Context, ep *Endpoint) (conn.Conn, Result, error) {
		return owner.dialMesh(ctx, ep, mtls.ALPNMux)
	}
	p.reserved, p.unsupportedUntil = make(map[Key]int), make(map[Key]time.Time)
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
	p.reserved[key]++
	return true
}

func (p *muxPool) release(key Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reserved[key]--; p.reserved[key] == 0 {
		delete(p.reserved, key)
	}
}

// shares reports whether the next connection for key is to be shared.
func (p *muxPool) shares(key Key) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sharesLocked(key)
}

func (p *muxPool) sharesLocked(key Key) bool {
	if p.reserved[key]+p.owner.agents.dedicatedTo(key) < muxFrom || p.ending() {
		return false
	}
	return !p.unsupported(key)
}

func (p *muxPool) unsupported(key Key) bool {
	until, known := p.unsupportedUntil[key]
	return known && time.Now().Before(until)
}

// stream returns a stream of a shared connection to ep. If none has room, one is made, for
// all callers that wait together. stream returns nil without an error if the peer does not
// support sharing, or if there are muxConnsPerKey connections already.
func (p *muxPool) stream(ctx context.Context, ep *Endpoint, account *fairshare.Account) (*mux.Stream, error) {
	key := ep.Key
	for range muxConnsPerKey { // a peer that drains accepts connections, but no streams
		p.mu.Lock()
		for _, c := range p.conns[key] {
			if s := c.Open(); s != nil {
				p.mu.Unlock()
				return s, nil
			}
		}
		if p.unsupported(key) || p.ending() || len(p.conns[key]) >= muxConnsPerKey {
			p.mu.Unlock()
			return nil, nil
		}
		done := make(chan muxDialled, 1)
		if !p.join(key, done, unboundedWaiters) {
			// Without the first caller's cancellation: others wait for it as well.
			go p.dial(context.WithoutCancel(ctx), *ep, account, p.begin(key, done))
		}
		p.mu.Unlock()
		select {
		case d := <-done:
			ep.Took = d.took
			if d.err != nil {
				return nil, d.err
			}
		case <-ctx.Done():
			return nil, mesh.Fail(mesh.ReasonConnectTimeout, ctx.Err())
		}
	}
	return nil, nil
}

// dial makes a shared connection and carries it to its end.
func (p *muxPool) dial(ctx context.Context, ep Endpoint, account *fairshare.Account, d *dial[chan muxDialled]) {
	c, result, err := p.connect(ctx, &ep)
	var m *mux.Conn
	p.mu.Lock()
	waiters := p.dialled(ep.Key, d)
	switch {
	case err != nil:
	case result.ALPN == mtls.ALPNMux && !p.ending():
		m = mux.NewClient(c, account, func() { p.remove(ep.Key, m) })
		m.Budget = ep.Usage
		p.add(ep.Key, m)
	default:
		p.unsupportedUntil[ep.Key] = time.Now().Add(unsupportedMemory)
		c.Close()
	}
	p.mu.Unlock()
	for _, done := range waiters {
		done <- muxDialled{err, ep.Took}
	}
	if m != nil {
		l := p.owner.opened(c.Raw(), &ep, &result, netip.AddrPort{}, "http1")
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
