package client

import (
	"context"
	"math/rand/v2"
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
