package quota

import (
	"sync/atomic"
	"time"
)

// Bounds of a Pace: the rate of requests that clients of a pod give up before their
// response begins. Each costs the proxy as much as any request, and the client next to
// nothing, because it does not wait for the response (rapid reset, CVE-2023-44487).
const (
	VainRate  = 5000 // a second
	VainBurst = 1000
)

// Pace bounds the rate of something by making its cause wait: a leaky bucket of VainBurst
// that leaks VainRate a second. It is safe for concurrent use. The zero value is ready.
type Pace struct {
	empty atomic.Int64 // time at which the bucket is empty if nothing is added, nanoseconds
}

// Add adds one at now, a time since any fixed moment, and returns how long the cause is
// to wait before it may go on: 0 while the bucket does not overflow. Those that wait at
// the same time wait for each other's turn.
func (p *Pace) Add(now time.Duration) (wait time.Duration) {
	const drop = int64(time.Second / VainRate)
	for {
		old := p.empty.Load()
		empty := max(old, int64(now)) + drop
		if p.empty.CompareAndSwap(old, empty) {
			return max(0, time.Duration(empty-VainBurst*drop)-now)
		}
	}
}
