package l7proxy

import (
	"sync"
	"time"
)

// pool holds idle HTTP/1 connections to endpoints, newest first out: the others
// age and are closed.
type pool struct {
	mu     sync.Mutex
	idle   map[poolKey][]pooled
	total  int
	closed bool
}

// poolKey tells streams of shared connections from connections of their own.
type poolKey struct {
	PoolKey
	shared bool
}

type pooled struct {
	up    *h1Upstream
	since time.Time
}

// Bounds of what is kept idle.
const (
	poolPerKey = 256
	poolTotal  = 8192
)

// get takes an idle connection that is still alive, nil if there is none.
func (p *pool) get(of PoolKey, shared bool) *h1Upstream {
	key := poolKey{of, shared}
	for {
		p.mu.Lock()
		list := p.idle[key]
		if len(list) == 0 {
			p.mu.Unlock()
			return nil
		}
		last := list[len(list)-1].up
		list[len(list)-1] = pooled{}
		p.idle[key] = list[:len(list)-1]
		p.total--
		p.mu.Unlock()
		if alive(last.conn) {
			return last
		}
		last.conn.Close()
	}
}

// alive reports whether the peer has neither closed nor said anything.
func alive(c Conn) bool {
	if s, ok := c.(*muxStream); ok {
		return s.Idle()
	}
	raw := rawOf(c)
	return raw != nil && raw.Idle()
}

func (p *pool) put(up *h1Upstream) {
	_, shared := up.conn.(*muxStream)
	key := poolKey{up.key, shared}
	p.mu.Lock()
	list := p.idle[key]
	full := p.closed || len(list) >= poolPerKey || p.total >= poolTotal
	if !full {
		p.idle[key] = append(list, pooled{up: up, since: time.Now()})
		p.total++
	}
	p.mu.Unlock()
	if full {
		up.conn.Close()
	}
}

// closeIdle closes what has been idle for longer than limit.
func (p *pool) closeIdle(limit time.Duration) {
	cutoff := time.Now().Add(-limit)
	p.mu.Lock()
	var closing []Conn
	for key, list := range p.idle {
		old := 0 // oldest first
		for old < len(list) && list[old].since.Before(cutoff) {
			closing = append(closing, list[old].up.conn)
			old++
		}
		p.total -= old
		if old == len(list) {
			delete(p.idle, key)
		} else if old > 0 {
			p.idle[key] = append([]pooled(nil), list[old:]...)
		}
	}
	p.mu.Unlock()
	for _, c := range closing {
		c.Close()
	}
}

// closeAll closes what is idle, and from now on whatever is put.
func (p *pool) closeAll() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.closeIdle(-time.Hour)
}
