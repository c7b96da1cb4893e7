// Package pmap is a map that is immutable and shares structure with the maps that are made of
// it: to change an element copies a few small nodes, whatever the size of the map. It is a hash
// array mapped trie (Bagwell, Ideal Hash Trees, 2001).
package pmap

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
)

// Map is an immutable map. The zero Map is empty. Its methods may be called concurrently, and
// those that read allocate nothing.
type Map[K comparable, V any] struct {
	root *node[K, V]
	n    int
}

const (
	width = 5            // bits of the hash for each level
	depth = 64/width + 1 // levels; elements below have the same hash
	mask  = uint64(1)<<width - 1
)

var seed = maphash.MakeSeed()

// node has up to 32 slots: bit i of bits says whether there is one for i. At the last level it
// has any number of slots, one after the other.
type node[K comparable, V any] struct {
	bits  uint32
	owner *owner // the Editor that may change it; nil or another: none may
	slots []slot[K, V]
}

type slot[K comparable, V any] struct {
	child *node[K, V] // nil: key and value
	key   K
	value V
}

type owner struct{ _ byte }

// Len returns the number of elements.
func (m Map[K, V]) Len() int { return m.n }

// Get returns the value of a key, the zero V if it has none.
func (m Map[K, V]) Get(k K) V {
	v, _ := m.Find(k)
	return v
}

// Find returns the value of a key, false if it has none.
func (m Map[K, V]) Find(k K) (value V, found bool) {
	if m.root == nil {
		return value, false
	}
	hash := maphash.Comparable(seed, k)
	n := m.root
	for level := 0; level < depth; level++ {
		bit := uint32(1) << (hash & mask)
		hash >>= width
		if n.bits&bit == 0 {
			return value, false
		}
		s := &n.slots[bits.OnesCount32(n.bits&(bit-1))]
		if s.child == nil {
			if s.key == k {
				return s.value, true
			}
			return value, false
		}
		n = s.child
	}
	for i := range n.slots {
		if n.slots[i].key == k {
			return n.slots[i].value, true
		}
	}
	return value, false
}

// All returns the elements, in no particular order.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if m.root != nil {
			m.root.each(yield)
		}
	}
}

// Values returns the values, in no particular order.
func (m Map[K, V]) Values() iter.Seq[V] {
	return func(yield func(V) bool) {
		if m.root != nil {
			m.root.each(func(_ K, v V) bool { return yield(v) })
		}
	}
}

func (n *node[K, V]) each(yield func(K, V) bool) bool {
	for i := range n.slots {
		s := &n.slots[i]
		if s.child != nil {
			if !s.child.each(yield) {
				return false
			}
		} else if !yield(s.key, s.value) {
			return false
		}
	}
	return true
}

// Edit returns an Editor that begins with m, which stays as it is.
func (m Map[K, V]) Edit() *Editor[K, V] { return &Editor[K, V]{m: m, owner: &owner{}} }

// Editor makes a Map by many changes. It belongs to one goroutine.
type Editor[K comparable, V any] struct {
	m     Map[K, V]
	owner *owner
}

// Map returns the map as it is now. Later changes of the Editor do not change it.
func (e *Editor[K, V]) Map() Map[K, V] {
	e.owner = &owner{}
	return e.m
}

// Get returns the value of a key, the zero V if it has none.
func (e *Editor[K, V]) Get(k K) V { return e.m.Get(k) }

// Find returns the value of a key, false if it has none.
func (e *Editor[K, V]) Find(k K) (V, bool) { return e.m.Find(k) }

// Set sets the value of a key.
func (e *Editor[K, V]) Set(k K, v V) {
	if e.m.root == nil {
		e.m.root = &node[K, V]{owner: e.owner}
	}
	hash := maphash.Comparable(seed, k)
	e.m.root = e.set(e.m.root, hash, 0, slot[K, V]{key: k, value: v})
}

// own returns n, or a copy of it that e may change.
func (e *Editor[K, V]) own(n *node[K, V]) *node[K, V] {
	if n.owner == e.owner {
		return n
	}
	return &node[K, V]{bits: n.bits, owner: e.owner, slots: slices.Clone(n.slots)}
}

func (e *Editor[K, V]) set(n *node[K, V], hash uint64, level int, s slot[K, V]) *node[K, V] {
	n = e.own(n)
	if level == depth {
		for i := range n.slots {
			if n.slots[i].key == s.key {
				n.slots[i] = s
				return n
			}
		}
		n.slots = append(n.slots, s)
		e.m.n++
		return n
	}
	bit := uint32(1) << (hash >> (level * width) & mask)
	at := bits.OnesCount32(n.bits & (bit - 1))
	if n.bits&bit == 0 {
		n.bits |= bit
		n.slots = slices.Insert(n.slots, at, s)
		e.m.n++
		return n
	}
	switch old := n.slots[at]; {
	case old.child != nil:
		n.slots[at].child = e.set(old.child, hash, level+1, s)
	case old.key == s.key:
		n.slots[at] = s
	default:
		child := e.set(&node[K, V]{owner: e.owner}, maphash.Comparable(seed, old.key), level+1, old)
		e.m.n-- // old was there
		n.slots[at] = slot[K, V]{child: e.set(child, hash, level+1, s)}
	}
	return n
}

// Delete removes a key.
func (e *Editor[K, V]) Delete(k K) {
	if _, found := e.m.Find(k); !found {
		return
	}
	e.m.n--
	e.m.root = e.remove(e.m.root, maphash.Comparable(seed, k), 0, k)
}

// remove removes a key that is below n. It returns nil for a node without a slot.
func (e *Editor[K, V]) remove(n *node[K, V], hash uint64, level int, k K) *node[K, V] {
	n = e.own(n)
	at, bit := 0, uint32(0)
	if level == depth {
		at = slices.IndexFunc(n.slots, func(s slot[K, V]) bool { return s.key == k })
	} else {
		bit = uint32(1) << (hash >> (level * width) & mask)
		at = bits.OnesCount32(n.bits & (bit - 1))
		if child := n.slots[at].child; child != nil {
			if child = e.remove(child, hash, level+1, k); child != nil {
				n.slots[at].child = child
				return n
			}
		}
	}
	n.bits &^= bit
	n.slots = slices.Delete(n.slots, at, at+1)
	if len(n.slots) == 0 {
		return nil
	}
	return n
}
