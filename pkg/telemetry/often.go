package telemetry

import (
	"time"
	"unsafe"

	"github.com/underlane/underlane/pkg/slots"
)

// often finds the series that are used most, by the pointers of their short keys.
type often[S any] struct {
	slots.Table[short, *entry[S]]
}

// usedEvery is how often the time of the last event is written, because that evicts the cache
// line, which all processors read. It is far below idleAfter.
const usedEvery = time.Second

// update calls change with the series of k, and reports whether it has found it.
func (o *often[S]) update(k *short, now time.Time, change func(*S)) bool {
	at := k.slot()
	s := o.Get(at, k)
	if s == nil {
		return false
	}
	e := s.Value
	if used := now.UnixNano(); used-e.used.Load() > int64(usedEvery) {
		e.used.Store(used)
	}
	// A sweep empties the slots before it looks at the time of the last event. It has not begun,
	// so it does not drop the series.
	if !o.Has(at, s) {
		return false
	}
	change(e.value)
	return true
}

// remember has k find the entry e.
func (o *often[S]) remember(k *short, e *entry[S]) { o.Offer(k.slot(), k, e) }

// slot is the index of the key's slot.
func (k *short) slot() int {
	return slots.Index(unsafe.Pointer(k.own), unsafe.Pointer(k.dst), unsafe.Pointer(k.peer), unsafe.Pointer(k.service),
		uint64(k.direction)+uint64(k.reason)<<8+uint64(k.status)<<16+uint64(k.grpcStatus)<<32)
}
