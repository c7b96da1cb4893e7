package telemetry

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// table holds the series of one family by a comparable key. Finding an existing
// series takes a read lock and a map lookup, and allocates nothing. The table remembers
// which series events with the same pointers have, because hashing all the names of a key
// costs more than the rest.
//
// The table has two limits. When it has max series, a new key is folded into a
// coarser one (the authority becomes "other"). When it has twice max, a new key is
// dropped. Both cases are counted.
type table[K comparable, S any] struct {
	max  int
	fold func(K) K
	make func(K) *S

	mu              sync.RWMutex
	series          map[K]*entry[S]
	lately          map[short]*entry[S] // emptied by sweep
	often           often[S]            // likewise; of lately
	folded, dropped atomic.Uint64
}

type entry[S any] struct {
	value *S
	used  atomic.Int64 // unix nanoseconds
}

func newTable[K comparable, S any](limit int, fold func(K) K, makeSeries func(K) *S) *table[K, S] {
	return &table[K, S]{max: limit, fold: fold, make: makeSeries, series: map[K]*entry[S]{}, lately: map[short]*entry[S]{}}
}

// short finds a series without the names of its key: it has the event's pointers in their
// place. A pod or service that changes has a new pointer, and the same names. The zero short
// finds nothing.
type short struct {
	own, dst  *mesh.Workload
	peer      *mesh.Workload // that has the identity that the peer has proven; nil: it has proven none
	service   *mesh.Service
	tls       string
	direction mesh.Direction
	// Of a response, or of a connection that has closed.
	status, grpcStatus int
	success            bool
	reason             mesh.Reason
}

// shortOf returns the short key of an event for one direction. ok is false for what a client
// makes up, such as an authority, and for a peer that is not the pod that is known by its
// address.
func shortOf(e *tap.Event, direction mesh.Direction) (k short, ok bool) {
	k = short{tls: e.TLS, direction: direction}
	peer := &e.Source
	if direction == mesh.Inbound {
		k.own = e.Destination.Workload
	} else {
		k.own, k.dst, k.service = e.Source.Workload, e.Destination.Workload, e.Service
		peer = &e.Destination
		if k.service == nil && e.Authority != "" {
			return short{}, false
		}
	}
	switch {
	case peer.Identity.IsZero():
	case peer.Workload != nil && peer.Workload.Identity == peer.Identity:
		k.peer = peer.Workload
	default:
		return short{}, false
	}
	return k, true
}

// update calls change with the series of key, which it creates if necessary. change
// runs under the read lock, so that a series is never dropped between its lookup
// and its change. It must use only atomic operations. k is the short key of what key
// returns, unless it is the zero one.
func (t *table[K, S]) update(k short, key func() K, now time.Time, change func(*S)) {
	named := k == (short{})
	if !named && (t.often.update(&k, now, change) || t.updateLately(k, now, change)) {
		return
	}
	long := key()
	for !t.updateExisting(long, now, change) {
		var ok bool
		if long, ok = t.insert(long); !ok {
			t.dropped.Add(1)
			return
		}
	}
	if !named {
		t.remember(k, long)
	}
}

func (t *table[K, S]) updateLately(k short, now time.Time, change func(*S)) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.lately[k]
	if !e.update(now, change) {
		return false
	}
	t.often.remember(&k, e) // under the lock: not while a sweep drops e
	return true
}

func (t *table[K, S]) updateExisting(key K, now time.Time, change func(*S)) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.series[key].update(now, change)
}

// update reports whether there is an entry.
func (e *entry[S]) update(now time.Time, change func(*S)) bool {
	if e == nil {
		return false
	}
	e.used.Store(now.UnixNano())
	change(e.value)
	return true
}

// remember has k find the series of key.
func (t *table[K, S]) remember(k short, key K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lately) >= 2*t.max { // pods that were replaced since the last sweep
		t.forgetLately()
	}
	if e := t.series[key]; e != nil {
		t.lately[k] = e
	}
}

// forgetLately forgets the short keys. The caller holds mu.
func (t *table[K, S]) forgetLately() {
	clear(t.lately)
	t.often.Clear()
}

// insert creates the series of key, or of the key that key folds into, and returns
// the key that is now in the table.
func (t *table[K, S]) insert(key K) (K, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.series[key] != nil {
		return key, true
	}
	if len(t.series) >= t.max {
		if coarse := t.fold(key); coarse != key {
			t.folded.Add(1)
			key = coarse
		}
		if t.series[key] != nil {
			return key, true
		}
	}
	if len(t.series) >= 2*t.max {
		return key, false
	}
	e := &entry[S]{value: t.make(key)}
	e.used.Store(time.Now().UnixNano())
	t.series[key] = e
	return key, true
}

// each calls f for every series.
func (t *table[K, S]) each(f func(*S)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, e := range t.series {
		f(e.value)
	}
}

// sweep drops the series that were last used before the given time. idle, if not
// nil, must also agree to drop a series.
func (t *table[K, S]) sweep(before time.Time, idle func(*S) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetLately()
	for k, e := range t.series {
		if e.used.Load() < before.UnixNano() && (idle == nil || idle(e.value)) {
			delete(t.series, k)
		}
	}
}
