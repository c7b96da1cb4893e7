package control

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// backoff spaces retries: 50 ms, growing by half again up to 5 s, each drawn
// from the upper half so that the agents of a cluster do not return together.
type backoff struct{ last time.Duration }

func (b *backoff) reset() { b.last = 0 }

func (b *backoff) next() time.Duration {
	b.last = min(max(b.last*3/2, 50*time.Millisecond), 5*time.Second)
	return b.last/2 + rand.N(b.last/2)
}

func (b *backoff) sleep(ctx context.Context) {
	select {
	case <-time.After(b.next()):
	case <-ctx.Done():
	}
}

// spacing lets through one event in refusalsEvery.
type spacing struct {
	mu   sync.Mutex
	last time.Time
}

const refusalsEvery = 100 * time.Millisecond

func (s *spacing) allow(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.last) < refusalsEvery {
		return false
	}
	s.last = now
	return true
}
