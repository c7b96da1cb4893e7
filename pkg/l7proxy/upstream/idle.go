package upstream

import (
	"slices"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
)

// idlePool holds idle HTTP/1 connections to endpoints. The newest is used first, so that
// those that are not needed grow old and are closed. The zero value is ready.
type idlePool struct {
	mu     sync.Mutex
	lists  map[Key]*idleList
	total  int // number of connections, of all keys
	closed bool
}

// idleList has the idle connections of a key, the newest last. A connection remembers the list
// that it came from, and a user of the pool the lists that it used last (IdleLists), because to
// hash a Key takes longer than everything else that get and put do.
type idleList struct {
	key   Key
	conns []*HTTP1Conn
	gone  bool // it is not in the pool any more
}

// IdleLists remember where a user of a Pool has found its last idle connections. The zero value
// is ready. One goroutine at a time may use it.
type IdleLists struct{ dedicated, shared *idleList }

// Bounds of the connections that are kept idle.
const (
	idlePerKey = 256
	idleTotal  = 8192
)

// get takes an idle connection out that is still open, nil if there is none. held is that
// of HTTP1Conn.Open. last is the list that the caller has used last, or nil; get changes it.
func (p *idlePool) get(key *Key, held bool, last **idleList) *HTTP1Conn {
	for {
		c := p.newest(key, last)
		if c == nil || c.Open(held) {
			return c
		}
		c.Close()
	}
}

// newest takes the newest connection of a key out, nil if there is none. last is that of get.
func (p *idlePool) newest(key *Key, last **idleList) *HTTP1Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := *last
	if list == nil || list.gone || list.key != *key {
		list = p.lists[*key]
		*last = list
	}
	if list == nil || len(list.conns) == 0 {
		return nil
	}
	end := len(list.conns) - 1
	c := list.conns[end]
	list.conns[end] = nil
	list.conns = list.conns[:end] // kept even if it is empty: it is used again soon
	p.total--
	return c
}

func (p *idlePool) put(c *HTTP1Conn, at time.Duration) {
	c.since = at
	if !p.add(c) {
		c.Close()
	}
}

// add puts a connection in, as the newest. It returns false if there are too many.
func (p *idlePool) add(c *HTTP1Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.total >= idleTotal {
		return false
	}
	list := c.list
	if list == nil || list.gone {
		if list = p.lists[c.Key]; list == nil {
			if p.lists == nil {
				p.lists = make(map[Key]*idleList)
			}
			list = &idleList{key: c.Key}
			p.lists[c.Key] = list
		}
		c.list = list
	}
	if len(list.conns) >= idlePerKey {
		return false
	}
	list.conns = append(list.conns, c)
	p.total++
	return true
}

// closeIdle closes the connections that have been idle for longer than limit.
func (p *idlePool) closeIdle(limit time.Duration) {
	cutoff := balance.Now() - limit
	for _, c := range p.sweep(func(c *HTTP1Conn) bool { return c.since < cutoff }) {
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

// sweep takes the connections out for which gone returns true, and the lists that are empty.
func (p *idlePool) sweep(gone func(*HTTP1Conn) bool) (removed []*HTTP1Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, list := range p.lists {
		list.conns = slices.DeleteFunc(list.conns, func(c *HTTP1Conn) bool {
			if !gone(c) {
				return false
			}
			removed = append(removed, c)
			return true
		})
		if list.gone = len(list.conns) == 0; list.gone {
			delete(p.lists, key)
		}
	}
	p.total -= len(removed)
	return removed
}
