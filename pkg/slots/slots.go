// Package slots has a table that finds values by keys made of pointers, on the path of each
// request: without a lock, and without a hash of names. Both take longer than what is done with
// the value. It is a cache: a key that has no slot is looked up elsewhere.
package slots

import (
	"math/rand/v2"
	"sync/atomic"
	"unsafe"
)

const (
	bits = 8
	// Number is how many slots a table has.
	Number = 1 << bits
	// replaceOnce is of how many keys for which there is no free slot one takes another's. Keys
	// that are used often get one soon, and the others cost no memory at each use.
	replaceOnce = 64
)

// Table maps keys to values. Each key has two slots that it may be in, and shares them with
// others. The zero value is empty. All methods may be called concurrently.
type Table[K comparable, V any] [Number]atomic.Pointer[Slot[K, V]]

// Slot has a key and its value. It is never changed.
type Slot[K comparable, V any] struct {
	Key   K
	Value V
}

// Index returns where a key begins to look. All pointers that tell keys apart should be among
// these; those that are nil, and rest, add little. Objects that are moved would be a problem:
// Go's collector moves none.
func Index(a, b, c, d unsafe.Pointer, rest uint64) int {
	const odd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio (Knuth, TAOCP 3, 6.4)
	h := uint64(uintptr(a))
	h = h*odd + uint64(uintptr(b))
	h = h*odd + uint64(uintptr(c))
	h = h*odd + uint64(uintptr(d))
	h = h*odd + rest
	return int(h * odd >> (64 - bits))
}

// Get returns the slot of k, which has this Index; nil: it has none.
func (t *Table[K, V]) Get(at int, k *K) *Slot[K, V] {
	for _, i := range [...]int{at, at ^ 1} {
		if s := t[i].Load(); s != nil && s.Key == *k {
			return s
		}
	}
	return nil
}

// Has reports whether s, which Get returned for this Index, is still in the table.
func (t *Table[K, V]) Has(at int, s *Slot[K, V]) bool {
	return t[at].Load() == s || t[at^1].Load() == s
}

// Offer gives k, which has no slot and this Index, a free slot, or sometimes that of another key.
func (t *Table[K, V]) Offer(at int, k *K, v V) {
	switch {
	case t[at].Load() == nil:
	case t[at^1].Load() == nil:
		at ^= 1
	case rand.Uint32()%replaceOnce != 0:
		return
	}
	t[at].Store(&Slot[K, V]{*k, v})
}

// Clear empties the table.
func (t *Table[K, V]) Clear() {
	for i := range t {
		t[i].Store(nil)
	}
}
