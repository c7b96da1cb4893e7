package figures

import (
	"unsafe"

	"github.com/underlane/underlane/pkg/slots"
)

// recent has the targets of the keys of the last events. Its map is never changed. To hash a
// key, with its strings and its address, takes longer than everything else that an event needs:
// so the keys that are used most have slots, which their pointers find.
type recent struct {
	all   map[fast]target
	slots slots.Table[fast, target]
}

type slot = slots.Slot[fast, target]

func (r *recent) find(f *fast) (target, bool) {
	at := f.slot()
	if s := r.slots.Get(at, f); s != nil {
		return s.Value, true
	}
	t, ok := r.all[*f]
	if ok {
		r.slots.Offer(at, f, t)
	}
	return t, ok
}

// slot is the index of the key's slot.
func (f *fast) slot() int {
	return slots.Index(unsafe.Pointer(f.source), unsafe.Pointer(f.destination), unsafe.Pointer(f.service), unsafe.Pointer(f.route),
		uint64(f.direction)+uint64(len(f.rule)<<8+len(f.tls)<<4+len(f.protocol)))
}
