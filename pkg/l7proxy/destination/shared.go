package destination

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
)

// sharing has what the newest view knows of targets, for all connections of a pod to one of them:
// most are to few, and each would look for the same, and keep it in memory of its own. Another view
// has another table, so that none keeps what an old one had.
type sharing struct {
	table atomic.Pointer[sharedTable]
}

// sharedTargets is how many targets a table has. One of them may take the place of another.
const sharedTargets = 256

type sharedTable struct {
	version uint64 // of the view
	targets [sharedTargets]atomic.Pointer[sharedTarget]
}

type sharedTarget struct {
	sharedKey
	*knowledge
}

type sharedKey struct {
	client string // UID of the pod
	dst    netip.AddrPort
}

var sharedSeed = maphash.MakeSeed()

func (k sharedKey) place() uint64 { return maphash.Comparable(sharedSeed, k) % sharedTargets }

// get returns what the view with this version knows of a target, nil if no connection has looked.
func (s *sharing) get(version uint64, key sharedKey) *knowledge {
	all := s.table.Load()
	if all == nil || all.version != version {
		return nil
	}
	if t := all.targets[key.place()].Load(); t != nil && t.sharedKey == key {
		return t.knowledge
	}
	return nil
}

// put shares k. The view must have the client, and an answer about the address: otherwise k also
// depends on what was known before.
func (s *sharing) put(key sharedKey, k *knowledge) {
	all := s.table.Load()
	if all == nil || all.version != k.version {
		other := &sharedTable{version: k.version}
		if !s.table.CompareAndSwap(all, other) {
			return // another connection has seen that
		}
		all = other
	}
	all.targets[key.place()].Store(&sharedTarget{key, k})
}

// forget lets the next connections look again, which shows what is in use.
func (s *sharing) forget() { s.table.Store(nil) }
