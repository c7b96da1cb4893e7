package upstream

import (
	"context"
	"maps"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
)

const (
	// muxConnsPerKey bounds the shared connections to an endpoint. Beyond, each
	// HTTP/1 connection has one of its own.
	muxConnsPerKey = 64
	// muxFrom is how many connections to an endpoint are dedicated: those that
	// little traffic takes.
	muxFrom = 4
	// unsupportedMemory is how long a peer is remembered that shares no connections:
	// one of an older version, or an application whose agent is away.
	unsupportedMemory = 5 * time.Second
	unboundedWaiters  = 1 << 30
)

// muxPool holds the shared connections to agents.
type muxPool struct {
	pool[*mux.Conn, chan error] // a waiter is told how the dial ended
	owner                       *Pool
	connect                     func(ctx context.Context, ep *Endpoint) (conn.Conn, Result, error)

	// mu guards these as well.
	reserved         map[Key]int       // connections that are being made and are dedicated
	unsupportedUntil map[Key]time.Time // until when peers are thought to share none
}

func (p *muxPool) init(owner *Pool) {
	p.owner = owner
	p.connect = func(ctx context.Context, ep *Endpoint) (conn.Conn, Result, error) {
		return owner.dialMesh(ctx, ep, mtls.ALPNMux)
	}
	p.reserved, p.unsupportedUntil = make(map[Key]int), make(map[Key]time.Time)
}

// ending: no connection is shared any more.
func (p *muxPool) ending() bool { return p.owner.Lifetime.Retiring.Err() != nil }

// reserve reports whether a further connection for key is to be dedicated: there are
// few of them. Then release is to be called when it is made, or was not.
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

// shares reports whether a further connection for key is to be shared.
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

// stream returns a stream of a shared connection to ep, which is made where none has
// room: once for all who want one. Nil without an error: the peer shares none, or
// has as many as there may be.
func (p *muxPool) stream(ctx context.Context, ep *Endpoint) (*mux.Stream, error) {
	key := ep.Key
	for range muxConnsPerKey { // a peer that drains takes no stream of what it accepts
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
		done := make(chan error, 1)
		if !p.join(key, done, unboundedWaiters) {
			// Not the first one's context: others wait for it as well.
			go p.dial(context.WithoutCancel(ctx), *ep, p.begin(key, done))
		}
		p.mu.Unlock()
		select {
		case err := <-done:
			if err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, mesh.Fail(mesh.ReasonConnectTimeout, ctx.Err())
		}
	}
	return nil, nil
}

// dial makes a shared connection and carries it to its end.
func (p *muxPool) dial(ctx context.Context, ep Endpoint, d *dial[chan error]) {
	c, result, err := p.connect(ctx, &ep)
	var m *mux.Conn
	p.mu.Lock()
	waiters := p.dialled(ep.Key, d)
	switch {
	case err != nil:
	case result.ALPN == mtls.ALPNMux && !p.ending():
		m = mux.NewClient(c, func() { p.remove(ep.Key, m) })
		p.add(ep.Key, m)
	default:
		p.unsupportedUntil[ep.Key] = time.Now().Add(unsupportedMemory)
		c.Close()
	}
	p.mu.Unlock()
	for _, done := range waiters {
		done <- err
	}
	if m != nil {
		_ = m.Run(nil)
		p.remove(ep.Key, m)
		m.End()
	}
}

// closeIdle ends the connections that have had no stream for limit, and forgets
// what is known of peers for too long.
func (p *muxPool) closeIdle(limit time.Duration) {
	p.mu.Lock()
	maps.DeleteFunc(p.unsupportedUntil, func(_ Key, until time.Time) bool { return time.Now().After(until) })
	p.mu.Unlock()
	for _, c := range p.sweep(func(c *mux.Conn) bool { return c.IdleFor() > limit }) {
		c.Drain()
	}
}

// drain ends the connections after their last stream.
func (p *muxPool) drain() {
	for _, c := range p.sweep(func(*mux.Conn) bool { return true }) {
		c.Drain()
	}
}
