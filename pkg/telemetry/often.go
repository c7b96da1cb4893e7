package telemetry

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
	"unsafe"
)

// often finds the series that are used most, by the pointers of their short keys. It takes no
// lock, and hashes no names: both take longer than the change of the series.
type often[S any] [slots]atomic.Pointer[slot[S]]

// slot has an entry and its key. It is never changed.
type slot[S any] struct {
	short
	*entry[S]
}

const (
	slotBits = 8
	slots    = 1 << slotBits
	// replaceOnce is of how many events for which there is no free slot one takes another's. Keys
	// that are used often get one soon, and the others cost no memory at each event.
	replaceOnce = 64
	// usedEvery is how often the time of the last event is written, because that evicts the
	// cache line, which all processors read. It is far below idleAfter.
	usedEvery = time.Second
)

// update calls change with the series of k, and reports whether it has found it.
func (o *often[S]) update(k *short, now time.Time, change func(*S)) bool {
	at := k.slot()
	for _, i := range [...]int{at, at ^ 1} {
		s := o[i].Load()
		if s == nil || s.short != *k {
			continue
		}
		if used := now.UnixNano(); used-s.used.Load() > int64(usedEvery) {
			s.used.Store(used)
		}
		// A sweep empties the slots before it looks at the time of the last event. It has not begun,
		// so it does not drop the series.
		if o[i].Load() == s {
			change(s.value)
			return true
		}
	}
	return false
}

// remember has k find the entry e.
func (o *often[S]) remember(k *short, e *entry[S]) {
	at := k.slot()
	switch {
	case o[at].Load() == nil:
	case o[at^1].Load() == nil:
		at ^= 1
	case rand.Uint32()%replaceOnce != 0:
		return
	}
	o[at].Store(&slot[S]{*k, e})
}

func (o *often[S]) clear() {
	for i := range o {
		o[i].Store(nil)
	}
}

// slot is the number of the key's slot, by its pointers.
func (k *short) slot() int {
	const odd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio (Knuth, TAOCP 3, 6.4)
	h := uint64(uintptr(unsafe.Pointer(k.own)))
	h = h*odd + uint64(uintptr(unsafe.Pointer(k.dst)))
	h = h*odd + uint64(uintptr(unsafe.Pointer(k.peer)))
	h = h*odd + uint64(uintptr(unsafe.Pointer(k.service)))
	h = h*odd + uint64(k.direction) + uint64(k.reason)<<8 + uint64(k.status)<<16 + uint64(k.grpcStatus)<<32
	return int(h * odd >> (64 - slotBits))
}
