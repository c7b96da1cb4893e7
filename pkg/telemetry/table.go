package telemetry

import (
	"sync"
	"sync/atomic"
	"time"
)

// table holds the series of one family by a comparable key. Finding an existing
// series takes a read lock and a map lookup, and allocates nothing.
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
	folded, dropped atomic.Uint64
}

type entry[S any] struct {
	value *S
	used  atomic.Int64 // unix nanoseconds
}

func newTable[K comparable, S any](limit int, fold func(K) K, makeSeries func(K) *S) *table[K, S] {
	return &table[K, S]{max: limit, fold: fold, make: makeSeries, series: map[K]*entry[S]{}}
}

// update calls change with the series of key, which it creates if necessary. change
// runs under the read lock, so that a series is never dropped between its lookup
// and its change. It must use only atomic operations.
func (t *table[K, S]) update(key K, now time.Time, change func(*S)) {
	for !t.updateExisting(key, now, change) {
		var ok bool
		if key, ok = t.insert(key); !ok {
			t.dropped.Add(1)
			return
		}
	}
}

func (t *table[K, S]) updateExisting(key K, now time.Time, change func(*S)) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.series[key]
	if e == nil {
		return false
	}
	e.used.Store(now.UnixNano())
	change(e.value)
	return true
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
	for k, e := range t.series {
		if e.used.Load() < before.UnixNano() && (idle == nil || idle(e.value)) {
			delete(t.series, k)
		}
	}
}
