package quota

import (
	"sync/atomic"
	"time"
)

// Bounds of the framing that carried nothing, of all connections of a source to a pod: four
// times what one connection may send (package http2). A source with more connections could
// otherwise multiply it.
const (
	framingBurst = 512 << 10 // bytes
	framingRate  = 1 << 20   // bytes a second
)

// framing is a leaky bucket of framing, in bytes.
type framing struct {
	empty atomic.Int64 // time at which it is empty if nothing is added, nanoseconds
}

// add adds n bytes at now. It returns how long the cause is to wait: those that wait at the
// same time wait for each other's turn.
func (f *framing) add(now time.Duration, n int) time.Duration {
	const drop = int64(time.Second / framingRate)
	for {
		old := f.empty.Load()
		empty := max(max(old, int64(now))+int64(n)*drop, int64(now))
		if f.empty.CompareAndSwap(old, empty) {
			return max(0, time.Duration(empty-framingBurst*drop)-now)
		}
	}
}

// Framed counts n bytes of framing that a connection has added to its own account, or taken
// from it if n is negative, at now, a time since any fixed moment. It returns how long the
// connection is to wait before it is read again: 0 if it has added nothing. It is 0 for a
// nil Usage.
func (u *Usage) Framed(now time.Duration, n int) time.Duration {
	if u == nil || n == 0 {
		return 0
	}
	wait := u.party.framing.add(now, n)
	if n < 0 {
		return 0
	}
	return wait
}
