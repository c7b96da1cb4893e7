package figures

import (
	"math/rand/v2"
	"sync/atomic"
	"unsafe"
)

// recent has the targets of the keys of the last events. Its map is never changed. To hash a
// key, with its strings and its address, takes longer than everything else that an event needs:
// so the keys that are used most have slots, which their pointers find.
type recent struct {
	all   map[fast]target
	slots [slots]atomic.Pointer[slot]
}

// slot has a target and its key. It is never changed.
type slot struct {
	fast
	target
}

const (
	slotBits = 8
	slots    = 1 << slotBits
	// replaceOnce is of how many events for which there is no free slot one takes another's. Keys
	// that are used often get one soon, and the others cost no memory at each event.
	replaceOnce = 64
)

func (r *recent) find(f *fast) (target, bool) {
	at := f.slot()
	for _, i := range [...]int{at, at ^ 1} {
		if s := r.slots[i].Load(); s != nil && s.fast == *f {
			return s.target, true
		}
	}
	t, ok := r.all[*f]
	if !ok {
		return t, false
	}
	switch {
	case r.slots[at].Load() == nil:
	case r.slots[at^1].Load() == nil:
		at ^= 1
	case rand.Uint32()%replaceOnce != 0:
		return t, true
	}
	r.slots[at].Store(&slot{*f, t})
	return t, true
}

// slot is the number of the key's slot, by its pointers.
func (f *fast) slot() int {
	const odd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio (Knuth, TAOCP 3, 6.4)
	h := uint64(uintptr(unsafe.Pointer(f.source)))
	h = h*odd + uint64(uintptr(unsafe.Pointer(f.destination)))
	h = h*odd + uint64(uintptr(unsafe.Pointer(f.service)))
	h = h*odd + uint64(uintptr(unsafe.Pointer(f.route))) + uint64(f.direction) + uint64(len(f.rule)<<8+len(f.tls)<<4+len(f.protocol))
	return int(h * odd >> (64 - slotBits))
}
