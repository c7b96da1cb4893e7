package observe

import "hash/maphash"

// What a Watcher uses again, so that requests cost no garbage: calls that have ended, and
// strings that were seen a moment ago, as most authorities and many paths were.

const (
	spareCalls = 64
	nameSlots  = 256
	maxName    = 256 // bytes of a string that is kept
)

type reuse struct {
	calls []*call
	names [nameSlots]string
	seed  maphash.Seed
}

// call returns an empty call.
func (r *reuse) call() *call {
	n := len(r.calls)
	if n == 0 {
		return new(call)
	}
	c := r.calls[n-1]
	r.calls[n-1], r.calls = nil, r.calls[:n-1]
	return c
}

// free takes a call that nothing has any more.
func (r *reuse) free(c *call) {
	if *c = (call{}); len(r.calls) < spareCalls {
		r.calls = append(r.calls, c)
	}
}

// name returns b as a string.
func (r *reuse) name(b []byte) string {
	if len(b) > maxName {
		return string(b)
	}
	slot := &r.names[maphash.Bytes(r.seed, b)%nameSlots]
	if *slot != string(b) {
		*slot = string(b)
	}
	return *slot
}
