package upstream

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
)

// A stream costs no handshake, but its bytes cost up to twice as much as those of a dedicated
// connection: they are framed, and all streams share a reader and the window of one TCP
// connection. So the pool remembers how connections to an endpoint are used, and shares none
// before some have ended that have carried little.
const (
	// shareWithin is the time since the last connection to an endpoint within which the next
	// one is shared. One handshake in so long costs nothing, and a single connection that
	// stays costs least if it is dedicated.
	shareWithin = 10 * time.Second
	// bulkBytes is how many bytes connections to an endpoint carry, on average, where
	// further ones are dedicated.
	bulkBytes = 2 << 20
	// bulkMost bounds what one connection counts: after it, some 20 that carry little have
	// to follow before connections are shared again.
	bulkMost = 16 * bulkBytes
	// bulkFirst is what a stream counts as soon as it has carried more than bulkBytes, because
	// more is likely to follow.
	bulkFirst = 4 * bulkBytes
	// sharedAfter is how many connections have to end before others are shared: what tests
	// whether a port is open, before it is used for bulk, is not taken for its use.
	sharedAfter = 4
	// averageOver is about the number of connections of the average.
	averageOver = 8

	usesMost   = 4096 // endpoints that are remembered
	usesMemory = 10 * time.Minute
)

// opaqueUses remembers how the opaque connections to endpoints are used. The zero value is
// ready.
type opaqueUses struct {
	mu    sync.Mutex
	byKey map[Key]*opaqueUse
}

type opaqueUse struct {
	last  time.Duration // when a connection was opened last, by balance.Now
	ended uint64        // connections that have ended
	mean  int64         // bytes that a connection carries
}

// shares reports whether the next connection for key is to be shared, and counts it. open
// reports whether there is a shared connection already.
func (u *opaqueUses) shares(key Key, open func(Key) bool) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	now, one := balance.Now(), u.byKey[key]
	if one == nil {
		u.put(key, &opaqueUse{last: now})
		return false
	}
	since := now - one.last
	one.last = now
	return one.ended >= sharedAfter && one.mean <= bulkBytes && (since < shareWithin || open(key))
}

// carried counts what a connection for key has carried.
func (u *opaqueUses) carried(key Key, bytes uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	one := u.byKey[key]
	if one == nil {
		return
	}
	one.ended++
	if n := int64(min(bytes, bulkMost)); n > one.mean {
		one.mean = n
	} else {
		one.mean -= (one.mean - n) / averageOver
	}
}

// put adds an endpoint. Where there are too many, any other one is forgotten. mu is held.
func (u *opaqueUses) put(key Key, one *opaqueUse) {
	if u.byKey == nil {
		u.byKey = make(map[Key]*opaqueUse)
	}
	if len(u.byKey) >= usesMost {
		for other := range u.byKey {
			delete(u.byKey, other)
			break
		}
	}
	u.byKey[key] = one
}

// forget forgets endpoints to which no connection was opened for long.
func (u *opaqueUses) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	before := balance.Now() - usesMemory
	for key, one := range u.byKey {
		if one.last < before {
			delete(u.byKey, key)
		}
	}
}

// carried counts the bytes of one connection.
type carried struct{ n atomic.Uint64 }

// crosses counts n bytes, and reports whether there are more than bulkBytes for the first
// time.
func (c *carried) crosses(n int) bool {
	after := c.n.Add(uint64(n))
	return after > bulkBytes && after-uint64(n) <= bulkBytes
}

// Carried counts how many bytes an opaque connection to another node has carried.
func (p *Pool) Carried(key Key, bytes uint64) { p.opaque.uses.carried(key, bytes) }
