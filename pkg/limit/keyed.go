package limit

import (
	"sync"
	"time"
)

// Keyed limits each key on its own. It is safe for concurrent use, and does not
// allocate for keys that it knows.
type Keyed[K comparable] struct {
	rate  Rate
	bound int

	mu      sync.RWMutex
	buckets map[K]*Bucket
	swept   time.Duration
}

// NewKeyed limits each key to rate, and knows up to bound keys at a time.
func NewKeyed[K comparable](rate Rate, bound int) *Keyed[K] {
	return &Keyed[K]{rate: rate, bound: bound, buckets: make(map[K]*Bucket)}
}

// Take counts an event of key at now, if the rate allows it; if not, it returns
// the time to wait. While there are more busy keys than the bound the new ones
// are refused: room for all of them is what an attacker would ask for.
func (k *Keyed[K]) Take(now time.Duration, key K) (ok bool, wait time.Duration) {
	k.mu.RLock()
	b := k.buckets[key]
	if b != nil {
		// Within the lock: a bucket must not be swept while it is taken from.
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

// Len is the number of keys that are known.
func (k *Keyed[K]) Len() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.buckets)
}

// sweepEvery spares the lock: a sweep looks at all keys.
const sweepEvery = 10 * time.Millisecond

// sweep forgets idle keys, and reports whether there is room.
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
