package l7proxy

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/mesh"
)

// Bounds of the pool for one key.
const (
	h2ConnsPerKey  = 64
	h2WaitersADial = 100 // streams that a new connection surely takes (RFC 9113 §6.5.2)
)

// h2Pool holds the HTTP/2 connections to endpoints, shared by all requests of
// one PoolKey, and knows the clients' connections. The zero value is ready.
type h2Pool struct {
	mu       sync.Mutex
	conns    map[PoolKey][]*h2upstream
	dials    map[PoolKey][]*h2dial
	sessions map[*h2server]struct{}
	draining bool

	refused atomic.Uint64 // requests, for want of connections to their endpoint
	floods  atomic.Uint64 // clients that were sent away for flooding
}

// open puts st on a connection for its choice: one that is there, or one that
// is being made; then connected follows later. not, if any, is a connection
// that refused st. The caller holds st.mu.
func (p *h2Pool) open(st *h2stream, not *h2upstream, b *h2batch) {
	key := st.choice.Key
	for i := 0; ; i++ {
		p.mu.Lock()
		conns := p.conns[key]
		if i >= len(conns) {
			break // with p.mu: nothing slips between the look and the dial
		}
		u := conns[i]
		p.mu.Unlock()
		if u != not && st.attach(u, b) {
			return
		}
	}
	dials := p.dials[key]
	if n := len(dials); n > 0 && len(dials[n-1].waiters) < h2WaitersADial {
		dials[n-1].waiters = append(dials[n-1].waiters, st.waiter())
		p.mu.Unlock()
		return
	}
	if len(p.conns[key])+len(dials) >= h2ConnsPerKey {
		p.mu.Unlock()
		p.refused.Add(1)
		st.fail(mesh.ReasonOverload, b)
		return
	}
	d := &h2dial{waiters: []h2waiter{st.waiter()}}
	if p.dials == nil {
		p.dials = make(map[PoolKey][]*h2dial)
	}
	p.dials[key] = append(dials, d)
	p.mu.Unlock()
	choice, balanced := *st.choice, st.choice.balanced() // Dial writes into it, and st may go before
	choice.load = load{}
	go p.dial(st.srv.session, &choice, balanced, d)
}

// dialled ends a dial: u joins the pool, unless the dial failed, and whoever
// waited is returned.
func (p *h2Pool) dialled(key PoolKey, d *h2dial, u *h2upstream) []h2waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if rest := slices.DeleteFunc(p.dials[key], func(o *h2dial) bool { return o == d }); len(rest) > 0 {
		p.dials[key] = rest
	} else {
		delete(p.dials, key)
	}
	if u != nil && !p.draining {
		if p.conns == nil {
			p.conns = make(map[PoolKey][]*h2upstream)
		}
		p.conns[key] = append(p.conns[key], u)
	}
	return d.waiters
}

// remove takes a connection out: no new stream goes on it.
func (p *h2Pool) remove(u *h2upstream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.conns[u.key]
	rest := make([]*h2upstream, 0, len(old)) // readers hold the old slice
	for _, o := range old {
		if o != u {
			rest = append(rest, o)
		}
	}
	if len(rest) > 0 {
		p.conns[u.key] = rest
	} else {
		delete(p.conns, u.key)
	}
}

func (p *h2Pool) enter(srv *h2server) {
	p.mu.Lock()
	if p.sessions == nil {
		p.sessions = make(map[*h2server]struct{})
	}
	p.sessions[srv] = struct{}{}
	draining := p.draining
	p.mu.Unlock()
	if draining {
		srv.drain()
	}
}

func (p *h2Pool) leave(srv *h2server) {
	p.mu.Lock()
	delete(p.sessions, srv)
	p.mu.Unlock()
}

// dropKeys drains the connections of some keys: those private to a session
// that ended.
func (p *h2Pool) dropKeys(keys []PoolKey) {
	p.mu.Lock()
	var all []*h2upstream
	for _, key := range keys {
		all = append(all, p.conns[key]...)
		delete(p.conns, key)
	}
	p.mu.Unlock()
	for _, u := range all {
		u.drain()
	}
}

// drain tells every client by GOAWAY to go elsewhere; streams in progress are
// finished. It does not wait.
func (p *h2Pool) drain() {
	p.mu.Lock()
	p.draining = true
	sessions := slices.Collect(maps.Keys(p.sessions))
	p.mu.Unlock()
	for _, srv := range sessions {
		srv.drain()
	}
}

func (p *h2Pool) ends() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.draining
}

// closeAll ends every upstream connection once its streams are done, and
// cuts the clients' connections.
func (p *h2Pool) closeAll() {
	p.drain()
	p.mu.Lock()
	keys := slices.Collect(maps.Keys(p.conns))
	p.mu.Unlock()
	p.dropKeys(keys)
	p.mu.Lock()
	sessions := slices.Collect(maps.Keys(p.sessions))
	p.mu.Unlock()
	for _, srv := range sessions {
		srv.nc.Close()
	}
}
