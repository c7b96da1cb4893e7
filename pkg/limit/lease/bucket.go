package lease

import (
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// Bucket is the state of one bucket on a node: tokens for requests, which come at a rate that
// changes.
type Bucket struct {
	pool   *Pool
	id     uint64        // in reports
	value  string        // that it is for; "" with other
	other  bool          // it is for the values beyond the bounds
	client mesh.Identity // that made it

	mu     sync.Mutex
	credit float64       // requests that may come at once
	rate   float64       // in force, a second
	at     time.Duration // when credit was computed
	lent   float64       // the rate of the lease; below 0: none
	used   time.Duration // the last request

	wanted, refused uint64 // requests so far

	reported // what the Reporter keeps
}

// reported has the demand of a bucket. The Table's mutex protects it.
type reported struct {
	made    time.Duration
	stepped time.Duration // the last step
	last    uint64        // wanted then
	steps   [4]float64    // requests in the last steps, the newest first
	spans   [4]time.Duration
	known   bool    // to the Ledger, on this stream
	told    float64 // the demand that was sent
}

// take counts a request at now, and reports whether the bucket lets it in.
func (b *Bucket) take(now time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill(now)
	b.wanted++
	b.used = max(b.used, now)
	if b.credit < 1 {
		b.refused++
		return false
	}
	b.credit--
	return true
}

// GiveBack takes back a request that was let in, as if it had not come.
func (b *Bucket) GiveBack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.credit = min(b.credit+1, b.depth(b.rate))
	b.wanted--
}

// refill brings rate and credit to what they are at now.
func (b *Bucket) refill(now time.Duration) {
	rate := b.pool.inForce(now, b.lent)
	if now > b.at {
		// The rate may have changed at any time since.
		b.credit += min(rate, b.rate) * (now - b.at).Seconds()
		b.at = now
	}
	b.rate = rate
	b.credit = min(b.credit, b.depth(rate))
}

// depth is the credit that a rate can gather: the same part of the burst as of the rate.
func (b *Bucket) depth(rate float64) float64 {
	l := &b.pool.limit
	if l.Rate <= 0 {
		return 0
	}
	return max(l.Burst*rate/l.Rate, 1)
}

// lend sets the rate of the lease. It reports whether the rate was lowered.
func (b *Bucket) lend(now time.Duration, rate float64) (lowered bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill(now)
	was := b.rate
	b.lent = rate
	b.refill(now)
	return b.rate < was
}

// unused reports whether the bucket had no request since IdleAfter and can be made anew
// without anybody noticing.
func (b *Bucket) unused(now time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refill(now)
	return now-b.used >= IdleAfter && b.credit >= b.depth(b.rate)
}
