// Package limit bounds rates with the generic cell rate algorithm (ITU-T I.371).
// Its state is one number for each limited thing: the time at which the next
// event would be due if events came evenly. It has no clock: the time is an
// argument, counted from any fixed moment by a monotonic clock.
package limit

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// Rate is a number of events per time, and how many of them may come at once.
type Rate struct {
	every time.Duration // interval between events that come evenly
	ahead time.Duration // how far the due time may run ahead of the clock
}

// NewRate makes a Rate of count events per period. Up to burst events may come
// at once. It fails if count or burst is below 1, if the period divided by count
// is below 1 ns, or if the burst covers more than some 70 years.
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

// Bucket is the state of one limited thing. The zero Bucket has seen no event
// yet. It is safe for concurrent use.
type Bucket struct{ due atomic.Int64 }

// Take counts an event at now if rate allows it. Otherwise it returns the time
// after which rate would allow it.
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

// Return takes an event back that Take has counted, as if it had not come.
func (b *Bucket) Return(rate Rate) { b.due.Add(-int64(rate.every)) }

// Idle reports whether the state of the bucket at now equals that of an unused
// one, so that it can be dropped.
func (b *Bucket) Idle(now time.Duration) bool { return time.Duration(b.due.Load()) <= now }
