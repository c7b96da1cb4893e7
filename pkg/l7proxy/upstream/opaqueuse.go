package upstream

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/mtls"
)

// A stream costs no handshake, unless it carries much: it then moves to a connection of its
// own, which takes one all the same. So the pool remembers how connections to an endpoint are
// used. It shares none before some are open, or have ended, and none where most carry much, or
// where the agent at the other end does not support it.
const (
	// shareWithin is the time since the last connection to an endpoint within which the next
	// one is shared. One handshake in so long costs nothing, and a single connection that
	// stays costs least if it is dedicated.
	shareWithin = 10 * time.Second
	// bulkBytes is how many bytes a connection carries that gets a connection of its own.
	bulkBytes = 2 << 20
	// sharedAfter is how many connections have to end before others are shared: what tests
	// whether a port is open, before it is used for bulk, is not taken for its use.
	sharedAfter = 4
	// sharedFrom is how many are open, or are being opened, when others are shared all the same.
	sharedFrom = 8
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
	begun uint64        // connections
	ended uint64        // those that have ended
	bulk  float64       // the part of these that has carried much, the last ones above all
	old   bool          // the agent at the other end supports no streams, as the last handshake has shown
}

// shares reports whether the next connection for key is to be shared, and counts it. open
// reports whether there is a shared connection already.
func (u *opaqueUses) shares(key Key, open func(Key) bool) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	now, one := balance.Now(), u.byKey[key]
	if one == nil {
		u.put(key, &opaqueUse{last: now, begun: 1})
		return false
	}
	since := now - one.last
	one.last = now
	one.begun++
	return !one.old && one.known() && one.bulk <= 0.5 && (since < shareWithin || open(key))
}

// known reports whether there have been so many connections that others are to be shared.
func (one *opaqueUse) known() bool {
	return one.ended >= sharedAfter || one.begun > one.ended+sharedFrom
}

// dialled says which protocol the agent has chosen for a connection that is not shared. So each
// handshake shows whether it supports streams, and none is made in vain to find that out.
func (u *opaqueUses) dialled(key Key, alpn string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if one := u.byKey[key]; one != nil {
		one.old = alpn == mtls.ALPNTCP
	}
}

// failed says that a connection for key could not be made.
func (u *opaqueUses) failed(key Key) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if one := u.byKey[key]; one != nil && one.begun > 0 {
		one.begun--
	}
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
	is := 0.0
	if bytes > bulkBytes {
		is = 1
	}
	one.bulk += (is - one.bulk) / averageOver
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
