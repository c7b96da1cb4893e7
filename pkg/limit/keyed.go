package limit

import (
	"sync"
	"time"
)

// Keyed limits each key separately. It is safe for concurrent use, and does not
// allocate for a key that it has a bucket for.
type Keyed[K comparable] struct {
	rate  Rate
	bound int

	mu      sync.RWMutex
	buckets map[K]*Bucket
	swept   time.Duration
}

// NewKeyed makes a Keyed that limits each key to rate and holds at most bound
// keys at a time.
func NewKeyed[K comparable](rate Rate, bound int) *Keyed[K] {
	return &Keyed[K]{rate: rate, bound: bound, buckets: make(map[K]*Bucket)}
}

// Take counts an event of key at now if the rate allows it. Otherwise it returns
// the time to wait. While as many keys as the bound are busy, new keys are
// refused: an attacker could otherwise use up memory with many keys.
func (k *Keyed[K]) Take(now time.Duration, key K) (ok bool, wait time.Duration) {
	k.mu.RLock()
	b := k.buckets[key]
	if b != nil {
		// Under the lock: sweep must not delete the bucket meanwhile.
		ok, wait = b.Take(now, k.rate)
		k.mu.RUnlock()
		return ok, wait
	}
	k.mu.RUnlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	if b = k.buckets[key]; b == nil {
		if len(k.buckets) >= k.bound && !k.sweep(now) {
			return false, k.rate.every
		}
		b = new(Bucket)
		k.buckets[key] = b
	}
	return b.Take(now, k.rate)
}

// Len returns the number of keys that have a bucket.
func (k *Keyed[K]) Len() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.buckets)
}

// sweepEvery is the least time between two sweeps. A sweep visits all keys with
// the lock held.
const sweepEvery = 10 * time.Millisecond

// sweep deletes idle keys and reports whether there is room for a new one.
func (k *Keyed[K]) sweep(now time.Duration) bool {
	if now-k.swept < sweepEvery && k.swept != 0 {
		return false
	}
	k.swept = now
	for key, b := range k.buckets {
		if b.Idle(now) {
			delete(k.buckets, key)
		}
	}
	return len(k.buckets) < k.bound
}
