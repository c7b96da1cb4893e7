package calls

import (
	"net/netip"
	"sync/atomic"
	"unsafe"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Entry counts calls that are alike, and were decided alike.
type Entry struct {
	Key
	Finding *authz.Finding
	Pod     *mesh.Workload // the server, as it was at the first call

	precise bool // the key is not folded
	total   *atomic.Uint64
	last    atomic.Int64 // step in which it was used
	// source is an address that the client's identity has called from.
	source  atomic.Pointer[netip.Addr]
	several atomic.Bool // there were others
	open    atomic.Int64
	counts  [slots]atomic.Uint64
}

// perEntry is about what an Entry takes with its texts and its place in a map.
const perEntry = int(unsafe.Sizeof(Entry{})) + int(unsafe.Sizeof(entryKey{}))*3/2 + maxPath

// from notes the address of a client with an identity.
func (e *Entry) from(a netip.Addr) {
	if e.several.Load() {
		return
	}
	a = a.Unmap().WithZone("")
	if was := e.source.Load(); was == nil {
		e.source.Store(keep(a))
	} else if *was != a {
		e.several.Store(true)
	}
}

// keep is a function of its own so that a stays on the stack of its caller.
//
//go:noinline
func keep(a netip.Addr) *netip.Addr { return &a }

// From returns the client's address, the zero Addr if there were several.
func (e *Entry) From() netip.Addr {
	if a := e.source.Load(); a != nil && !e.several.Load() {
		return *a
	}
	return e.Address
}

// A count has the step modulo 1<<16 in the upper 16 bits, then 24 bits for the calls, and 24
// for those of them that failed.
const (
	most = 1<<24 - 1
	one  = 1 << 24
)

// count adds n to the count of a step: one for a call, 1 for a failure.
func (e *Entry) count(step int64, n uint64) {
	e.last.Store(step)
	slot := &e.counts[step%int64(slots)]
	for {
		was := slot.Load()
		next := was
		if next>>48 != uint64(step)&0xffff {
			next = uint64(step) & 0xffff << 48
		}
		if next>>24&most == most || next&most == most {
			return
		}
		if slot.CompareAndSwap(was, next+n) {
			return
		}
	}
}

// Failed counts the failure of a call that was judged before.
func (s *Store) Failed(e *Entry) { e.count(s.step(), 1) }

// Opened and Closed count connections that are open.
func (e *Entry) Opened() { e.open.Add(1) }

// Closed is the end of what Opened began.
func (e *Entry) Closed() { e.open.Add(-1) }

// between returns the calls in the steps from first to last, both included, of at most slots.
func (e *Entry) between(first, last int64) (calls, failed uint64) {
	for step := max(first, last-int64(slots)+1); step <= last; step++ {
		n := e.counts[step%int64(slots)].Load()
		if n != 0 && n>>48 == uint64(step)&0xffff {
			calls += n >> 24 & most
			failed += n & most
		}
	}
	return calls, failed
}
