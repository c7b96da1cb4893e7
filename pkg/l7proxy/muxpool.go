package l7proxy

import (
	"context"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
)

// muxes are the shared connections of a proxy.
type muxes struct {
	mu      sync.Mutex
	conns   map[PoolKey][]*mux
	dials   map[PoolKey]*muxDial
	own     map[PoolKey]int       // connections that are being made and are not to be shared
	alone   map[PoolKey]time.Time // until when peers are thought to share none
	serving map[*mux]struct{}     // those that other agents have made to this one
	ending  bool
}

func (p *muxes) init() {
	p.conns, p.dials = make(map[PoolKey][]*mux), make(map[PoolKey]*muxDial)
	p.own, p.alone = make(map[PoolKey]int), make(map[PoolKey]time.Time)
	p.serving = make(map[*mux]struct{})
}

// muxDial is a shared connection being made.
type muxDial struct {
	done chan struct{}
	err  error
}

// aloneMemory is how long a peer is remembered that shares no connections: one of
// an older version, or an application whose agent is away.
const aloneMemory = 5 * time.Second

// reserve reports whether a further connection for key is not to be shared: there
// are few of them. reserved is to be called when it is made, or not.
func (p *muxes) reserve(key PoolKey, made *watchedConns) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shared(key, made) {
		return false
	}
	p.own[key]++
	return true
}

func (p *muxes) reserved(key PoolKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.own[key]--; p.own[key] == 0 {
		delete(p.own, key)
	}
}

// shares reports whether a further connection for key is to be shared.
func (p *muxes) shares(key PoolKey, made *watchedConns) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shared(key, made)
}

func (p *muxes) shared(key PoolKey, made *watchedConns) bool {
	if p.own[key]+made.ownHTTP1(key) < muxFrom || p.ending {
		return false
	}
	return !p.isAlone(key)
}

func (p *muxes) isAlone(key PoolKey) bool {
	until, known := p.alone[key]
	return known && time.Now().Before(until)
}

// stream returns a stream of a shared connection for key, which dial makes where
// none has room: once for all who want one. Nil without an error: the peer shares
// none, or has as many as there may be.
func (p *muxes) stream(ctx context.Context, key PoolKey, dial func(context.Context) (Conn, error)) (*muxStream, error) {
	for range muxConnsPerKey { // a peer that drains takes no stream of what it accepts
		p.mu.Lock()
		for _, m := range p.conns[key] {
			if s := m.stream(); s != nil {
				p.mu.Unlock()
				return s, nil
			}
		}
		if p.isAlone(key) || p.ending || len(p.conns[key]) >= muxConnsPerKey {
			p.mu.Unlock()
			return nil, nil
		}
		d := p.dials[key]
		if d == nil {
			d = &muxDial{done: make(chan struct{})}
			p.dials[key] = d
			go func() {
				// Not the first one's context: others wait for it as well.
				conn, err := dial(context.WithoutCancel(ctx))
				p.dialled(key, d, conn, err)
			}()
		}
		p.mu.Unlock()
		select {
		case <-d.done:
		case <-ctx.Done():
			return nil, mesh.Fail(mesh.ReasonConnectTimeout, ctx.Err())
		}
		if d.err != nil {
			return nil, d.err
		}
	}
	return nil, nil
}

// dialled ends a dial: whoever waits for it goes on.
func (p *muxes) dialled(key PoolKey, d *muxDial, conn Conn, err error) {
	d.err = err
	var m *mux
	secured, ok := conn.(*secureConn)
	shares := ok && secured.ConnectionState().NegotiatedProtocol == mtls.ALPNMux
	p.mu.Lock()
	delete(p.dials, key)
	switch {
	case err != nil:
	case shares && !p.ending:
		m = newMux(conn, http2.Client, nil)
		m.goingAway = func() { p.remove(key, m) }
		p.conns[key] = append(p.conns[key], m)
	default:
		p.alone[key] = time.Now().Add(aloneMemory)
		conn.Close()
	}
	p.mu.Unlock()
	close(d.done)
	if m != nil {
		_ = m.run(nil)
		p.remove(key, m)
		m.end()
	}
}

// closeIdle ends the connections that have had no stream for limit, and forgets
// what is known of peers for too long.
func (p *muxes) closeIdle(limit time.Duration) {
	p.mu.Lock()
	maps.DeleteFunc(p.alone, func(_ PoolKey, until time.Time) bool { return time.Now().After(until) })
	var closing []*mux
	for key, list := range p.conns {
		for _, m := range list {
			if m.idleFor() > limit {
				closing = append(closing, m)
				p.removeLocked(key, m)
			}
		}
	}
	p.mu.Unlock()
	for _, m := range closing {
		m.drain()
	}
}

func (p *muxes) remove(key PoolKey, m *mux) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.removeLocked(key, m)
}

func (p *muxes) removeLocked(key PoolKey, m *mux) {
	rest := slices.DeleteFunc(slices.Clone(p.conns[key]), func(o *mux) bool { return o == m })
	if len(rest) > 0 {
		p.conns[key] = rest
	} else {
		delete(p.conns, key)
	}
}

func (p *muxes) enter(m *mux) {
	p.mu.Lock()
	p.serving[m] = struct{}{}
	ending := p.ending
	p.mu.Unlock()
	if ending {
		m.drain()
	}
}

func (p *muxes) leave(m *mux) {
	p.mu.Lock()
	delete(p.serving, m)
	p.mu.Unlock()
}

// drain tells all peers to open no further stream. It does not wait.
func (p *muxes) drain() {
	p.mu.Lock()
	p.ending = true
	serving := slices.Collect(maps.Keys(p.serving))
	p.mu.Unlock()
	for _, m := range serving {
		m.drain()
	}
}

// closeAll ends connections to others after their last stream, and cuts those of
// others.
func (p *muxes) closeAll() {
	p.drain()
	p.mu.Lock()
	own := slices.Concat(slices.Collect(maps.Values(p.conns))...)
	serving := slices.Collect(maps.Keys(p.serving))
	p.mu.Unlock()
	for _, m := range own {
		m.drain()
	}
	for _, m := range serving {
		m.nc.Close()
	}
}

// serveMux carries the connection of another agent to its end: each stream is a
// session of its own.
func (s *Session) serveMux(ctx context.Context) {
	var sessions sync.WaitGroup
	m := newMux(s.Client, http2.Server, func(stream *muxStream) {
		sessions.Go(func() { s.serveStream(ctx, stream) })
	})
	p := s.proxy
	p.muxes.enter(m)
	defer p.muxes.leave(m)
	stop := context.AfterFunc(ctx, m.drain)
	defer stop()
	if endReason(m.run(s.Head)) == mesh.ReasonOverload {
		p.h2.floods.Add(1)
	}
	sessions.Wait()
	m.end()
}

// contain cuts a stream whose serving panics: a defect that one connection's bytes
// bring out must not end the traffic of the whole node.
func (s *Session) contain(stream *muxStream) {
	if defect := recover(); defect != nil {
		s.proxy.panics.Add(1)
		s.proxy.Log.Error("connection cut by a defect: please report this", "client", s.Source.Addr, "destination", s.Original,
			"panic", defect, "stack", string(debug.Stack()))
		_ = stream.Reset()
	}
}

// serveStream serves a stream as a connection of the same client.
func (s *Session) serveStream(ctx context.Context, stream *muxStream) {
	defer stream.Close()
	conn := s.target.(*inboundTarget)
	local := conn.local.Load()
	one := &Session{
		proxy: s.proxy, ID: s.proxy.ids.Add(1), Client: stream,
		Direction: s.Direction, Source: s.Source, Original: s.Original, TLS: s.TLS,
		target: newInboundTarget(local, conn.fromNode),
	}
	if !conn.fromNode {
		leave, ok := one.enterPod(local)
		if !ok {
			return
		}
		defer leave()
	}
	stream.charge(one.use)
	defer one.contain(stream)
	one.serveHTTP1(ctx, getBuffer())
}
