package upstream

import (
	"slices"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
)

// pool holds the connections to endpoints by key, and the dials. C is a connection, W is
// what waits for a dial. The zero value is ready.
type pool[C comparable, W any] struct {
	mu    sync.Mutex
	conns map[Key][]C
	dials map[Key][]*dial[W]
	total int // number of conns, of all keys
}

// dial is a connection that is being made.
type dial[W any] struct {
	waiters []W
	began   time.Duration // by balance.Now
}

// add puts a connection in, as the newest. The caller holds mu.
func (p *pool[C, W]) add(key Key, c C) {
	if p.conns == nil {
		p.conns = make(map[Key][]C)
	}
	p.conns[key] = append(p.conns[key], c)
	p.total++
}

// remove takes a connection out. It makes a new list, because readers may hold the old one.
func (p *pool[C, W]) remove(key Key, c C) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.removeIf(key, func(o C) bool { return o == c })
}

// removeIf takes the connections of a key out for which gone returns true. The caller holds
// mu.
func (p *pool[C, W]) removeIf(key Key, gone func(C) bool) (removed []C) {
	old := p.conns[key]
	rest := make([]C, 0, len(old))
	for _, c := range old {
		if gone(c) {
			removed = append(removed, c)
		} else {
			rest = append(rest, c)
		}
	}
	p.total -= len(removed)
	switch {
	case len(rest) == 0:
		delete(p.conns, key)
	case len(removed) > 0:
		p.conns[key] = rest
	}
	return removed
}

// sweep takes the connections of all keys out for which gone returns true.
func (p *pool[C, W]) sweep(gone func(C) bool) (removed []C) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key := range p.conns {
		removed = append(removed, p.removeIf(key, gone)...)
	}
	return removed
}

// take takes all connections of some keys out.
func (p *pool[C, W]) take(keys []Key) (removed []C) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, key := range keys {
		removed = append(removed, p.removeIf(key, func(C) bool { return true })...)
	}
	return removed
}

// join makes w wait for the latest dial of key. It returns false if there is none, or if
// that has most waiters already. The caller holds mu.
func (p *pool[C, W]) join(key Key, w W, most int) bool {
	dials := p.dials[key]
	if n := len(dials); n > 0 && len(dials[n-1].waiters) < most {
		dials[n-1].waiters = append(dials[n-1].waiters, w)
		return true
	}
	return false
}

// begin records a dial that w waits for. The caller holds mu, makes the connection and
// calls dialled.
func (p *pool[C, W]) begin(key Key, w W) *dial[W] {
	d := &dial[W]{waiters: []W{w}, began: balance.Now()}
	if p.dials == nil {
		p.dials = make(map[Key][]*dial[W])
	}
	p.dials[key] = append(p.dials[key], d)
	return d
}

// dialled ends a dial and returns what waited for it. The caller holds mu.
func (p *pool[C, W]) dialled(key Key, d *dial[W]) []W {
	if rest := slices.DeleteFunc(p.dials[key], func(o *dial[W]) bool { return o == d }); len(rest) > 0 {
		p.dials[key] = rest
	} else {
		delete(p.dials, key)
	}
	return d.waiters
}

// size returns the number of connections and dials of a key. The caller holds mu.
func (p *pool[C, W]) size(key Key) int { return len(p.conns[key]) + len(p.dials[key]) }
