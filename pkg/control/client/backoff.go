package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff spaces retries. The delay starts at 50 ms and grows by half each time, up
// to 5 s. Each delay is a random value from its upper half, so that the agents of a
// cluster do not reconnect at the same time.
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
