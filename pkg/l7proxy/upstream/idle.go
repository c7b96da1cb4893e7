package upstream

import "time"

// idlePool holds idle HTTP/1 connections to endpoints. The newest is used first, so that
// those that are not needed grow old and are closed. The zero value is ready.
type idlePool struct {
	pool[*HTTP1Conn, struct{}]
	closed bool
}

// Bounds of the connections that are kept idle.
const (
	idlePerKey = 256
	idleTotal  = 8192
)

// get takes an idle connection out that is still open, nil if there is none. held is that
// of HTTP1Conn.Open.
func (p *idlePool) get(key Key, held bool) *HTTP1Conn {
	for {
		p.mu.Lock()
		c, ok := p.newest(key)
		p.mu.Unlock()
		if !ok || c.Open(held) {
			return c
		}
		c.Close()
	}
}

func (p *idlePool) put(c *HTTP1Conn) {
	c.since = time.Now()
	p.mu.Lock()
	full := p.closed || len(p.conns[c.Key]) >= idlePerKey || p.total >= idleTotal
	if !full {
		p.add(c.Key, c)
	}
	p.mu.Unlock()
	if full {
		c.Close()
	}
}

// closeIdle closes the connections that have been idle for longer than limit.
func (p *idlePool) closeIdle(limit time.Duration) {
	cutoff := time.Now().Add(-limit)
	for _, c := range p.sweep(func(c *HTTP1Conn) bool { return c.since.Before(cutoff) }) {
		c.Close()
	}
}

// closeAll closes the idle connections, and from then on each that is put.
func (p *idlePool) closeAll() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for _, c := range p.sweep(func(*HTTP1Conn) bool { return true }) {
		c.Close()
	}
}
