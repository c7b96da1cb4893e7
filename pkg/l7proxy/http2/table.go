package http2

import "iter"

// Table has the streams of a connection by their identifiers, in the owner's type. The zero
// Table is empty.
//
// Each frame looks a stream up in several tables, so they are made for how identifiers come:
// one side's count up by two (RFC 9113, section 5.1.1), and few are open at once. A stream's
// place is its identifier modulo the size, and those whose place is taken, which are few unless
// a peer wants it, are in a map.
type Table[V any] struct {
	places []place[V] // a power of two of them
	others map[uint32]V
	len    int
}

type place[V any] struct {
	id    uint32 // 0: free
	value V
}

// The sizes are for a connection with one stream, and for one with as many as most peers allow.
const (
	tableLeast = 4
	tableMost  = 512
)

// at returns the place of a stream. There must be places.
func (t *Table[V]) at(id uint32) *place[V] { return &t.places[int(id>>1)&(len(t.places)-1)] }

// Get returns the stream with an identifier other than 0, and whether there is one.
func (t *Table[V]) Get(id uint32) (v V, ok bool) {
	if len(t.places) == 0 {
		return v, false
	}
	if p := t.at(id); p.id == id && id != 0 {
		return p.value, true
	}
	v, ok = t.others[id]
	return v, ok
}

// Put adds a stream, or replaces it.
func (t *Table[V]) Put(id uint32, v V) {
	if _, ok := t.others[id]; ok {
		t.others[id] = v
		return
	}
	if 2*t.len >= len(t.places) && len(t.places) < tableMost {
		t.grow()
	}
	switch p := t.at(id); p.id {
	case id:
		p.value = v
		return
	case 0:
		*p = place[V]{id, v}
	default:
		if t.others == nil {
			t.others = make(map[uint32]V)
		}
		t.others[id] = v
	}
	t.len++
}

func (t *Table[V]) grow() {
	old := *t
	*t = Table[V]{places: make([]place[V], max(tableLeast, 2*len(old.places)))}
	for id, v := range old.All() {
		// An entry that has a place in a table has one in a larger table, too, unless one of
		// those without a place now gets it first.
		if p := t.at(id); p.id == 0 {
			*p = place[V]{id, v}
		} else {
			if t.others == nil {
				t.others = make(map[uint32]V)
			}
			t.others[id] = v
		}
	}
	t.len = old.len
}

// Delete removes a stream, if it is there.
func (t *Table[V]) Delete(id uint32) {
	if len(t.places) == 0 || id == 0 {
		return
	}
	if p := t.at(id); p.id == id {
		*p = place[V]{}
		t.len--
	} else if _, ok := t.others[id]; ok {
		delete(t.others, id)
		t.len--
	}
}

// Len is the number of streams.
func (t *Table[V]) Len() int { return t.len }

// All goes through the streams, in no order. The stream that it has come to may be removed.
func (t *Table[V]) All() iter.Seq2[uint32, V] {
	return func(yield func(uint32, V) bool) {
		for n := range t.places {
			if p := &t.places[n]; p.id != 0 && !yield(p.id, p.value) {
				return
			}
		}
		for id, v := range t.others {
			if !yield(id, v) {
				return
			}
		}
	}
}

// Clear removes all streams.
func (t *Table[V]) Clear() {
	clear(t.places)
	clear(t.others)
	t.len = 0
}
