package otlp

import (
	"sync"
	"sync/atomic"
)

// queue holds items until they are sent. Offer does not wait.
type queue[T any] struct {
	most, mostBytes int
	batch           int           // full is signalled when there are so many
	ready, full     chan struct{} // capacity 1
	dropped         atomic.Uint64

	mu    sync.Mutex
	items []T
	sizes []int
	bytes int
}

func newQueue[T any](most, mostBytes, batch int) *queue[T] {
	return &queue[T]{most: most, mostBytes: mostBytes, batch: batch, ready: make(chan struct{}, 1), full: make(chan struct{}, 1)}
}

// offer adds an item that holds size bytes, or drops and counts it.
func (q *queue[T]) offer(item T, size int) {
	q.mu.Lock()
	if len(q.items) >= q.most || q.bytes+size > q.mostBytes {
		q.mu.Unlock()
		q.dropped.Add(1)
		return
	}
	q.items, q.sizes = append(q.items, item), append(q.sizes, size)
	q.bytes += size
	n := len(q.items)
	q.mu.Unlock()
	if n == 1 {
		signalOne(q.ready)
	}
	if n == q.batch {
		signalOne(q.full)
	}
}

// take removes the first items, at most q.batch.
func (q *queue[T]) take() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := min(len(q.items), q.batch)
	out := q.items[:n:n]
	for _, size := range q.sizes[:n] {
		q.bytes -= size
	}
	// The rest moves to a slice of its own, so that the memory of what is sent can be freed.
	q.items = append([]T(nil), q.items[n:]...)
	q.sizes = append([]int(nil), q.sizes[n:]...)
	return out
}

func (q *queue[T]) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) == 0
}

func signalOne(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
