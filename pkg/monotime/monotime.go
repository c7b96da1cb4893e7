// Package monotime has the monotonic clock as a number, which takes half as long to read as
// time.Now, needs no pointer, and can be kept where many readings are.
package monotime

import (
	"sync/atomic"
	"time"
)

// started is a second in the past, so that Now is always above zero.
var started = time.Now().Add(-time.Second)

// Now is the monotonic time since the process started, and a second.
func Now() time.Duration { return time.Since(started) }

const (
	// readEvery is how old a reading of the wall clock may be. That clock may be set meanwhile.
	readEvery = 50 * time.Millisecond
	// longAgo tells times of the past from those of another clock (package synctest).
	longAgo = time.Hour
)

// reading is what both clocks have shown at one moment.
type reading struct {
	t  time.Time
	at time.Duration
}

var last atomic.Pointer[reading]

// Time returns the time at which Now has returned at, within a microsecond. It has both readings
// of a time.Time. That of the wall clock is as if it had not been set within the last 50 ms.
func Time(at time.Duration) time.Time {
	r := last.Load()
	if r == nil || at-r.at > readEvery || at-r.at < -longAgo {
		r = &reading{time.Now(), Now()}
		last.Store(r)
	}
	return r.t.Add(at - r.at)
}
