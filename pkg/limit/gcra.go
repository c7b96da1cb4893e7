// Package limit bounds rates by the generic cell rate algorithm (ITU-T I.371):
// one number for each thing that is limited, the time at which the next event
// would be due if events came evenly. It has no clock: the time is an argument,
// counted from any fixed moment by a clock that never goes back.
package limit

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// Rate is a number of events in a time, and how many may come at once.
type Rate struct {
	every time.Duration // between events that come evenly
	ahead time.Duration // how far the due time may run ahead of the clock
}

// NewRate makes a Rate of count events per period, of which up to burst may
// come at once. The period divided by count is at least 1 ns.
func NewRate(count int, period time.Duration, burst int) (Rate, error) {
	if count < 1 || period < time.Duration(count) || burst < 1 {
		return Rate{}, fmt.Errorf("rate of %d in %v, %d at once: want at least one event, of a nanosecond at least", count, period, burst)
	}
	every := period / time.Duration(count)
	if int64(burst) > math.MaxInt64/4/int64(every) {
		return Rate{}, fmt.Errorf("rate of %d in %v, %d at once: the burst lasts too long", count, period, burst)
	}
	return Rate{every: every, ahead: every * time.Duration(burst-1)}, nil
}

// Bucket is the state of one thing that is limited. The zero Bucket has seen
// no event yet. It is safe for concurrent use.
type Bucket struct{ due atomic.Int64 }

// Take counts an event at now, if rate allows it. If not, it returns the time
// to wait until it would.
func (b *Bucket) Take(now time.Duration, rate Rate) (ok bool, wait time.Duration) {
	for {
		was := b.due.Load()
		due := max(time.Duration(was), now)
		if wait := due - rate.ahead - now; wait > 0 {
			return false, wait
		}
		if b.due.CompareAndSwap(was, int64(due+rate.every)) {
			return true, 0
		}
	}
}

// Idle reports whether the bucket is at now as if it had never been used, so
// that it can be forgotten.
func (b *Bucket) Idle(now time.Duration) bool { return time.Duration(b.due.Load()) <= now }
