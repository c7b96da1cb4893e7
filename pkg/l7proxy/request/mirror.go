package request

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
)

// Bounds of mirroring: no request waits for the answers, and so nothing slows down
// the clients whose requests are copied.
const (
	MirrorsAtOnce = 256
	MirrorTime    = 15 * time.Second // that a copy may take
)

// Mirrors are the copies of requests that are under way. The zero value is ready.
type Mirrors struct {
	running sync.WaitGroup
	now     atomic.Int64
	dropped atomic.Uint64
}

// Dropped counts copies that were not made: too many at once, no endpoint, a body
// over the replay limit, or no whole answer.
func (m *Mirrors) Dropped() uint64 { return m.dropped.Load() }

// UnderWay counts copies that were begun and have not ended.
func (m *Mirrors) UnderWay() int { return int(m.now.Load()) }

// Drop counts copies that were not made.
func (m *Mirrors) Drop(n int) { m.dropped.Add(uint64(n)) }

// Enter begins a copy, if there are not too many; Leave ends it.
func (m *Mirrors) Enter() bool {
	if m.now.Add(1) > MirrorsAtOnce {
		m.now.Add(-1)
		m.dropped.Add(1)
		return false
	}
	m.running.Add(1)
	return true
}

// Leave ends a copy. whole: it was answered.
func (m *Mirrors) Leave(whole bool) {
	if !whole {
		m.dropped.Add(1)
	}
	m.now.Add(-1)
	m.running.Done()
}

// Start runs send in a goroutine of its own, if there are not too many. ctx ends
// with parent, or when the copy has had its time.
func (m *Mirrors) Start(parent context.Context, send func(ctx context.Context) error) {
	if !m.Enter() {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(parent, MirrorTime)
		defer cancel()
		m.Leave(send(ctx) == nil)
	}()
}

// Wait waits for those under way.
func (m *Mirrors) Wait() { m.running.Wait() }

// Mirrored yields the backends that get a copy of this request.
func (p *Plan) Mirrored(yield func(*destination.Backend) bool) {
	if p.Action == nil {
		return
	}
	for i := range p.Action.Mirrors {
		if m := &p.Action.Mirrors[i]; m.Wants(rand.Uint64()) && !yield(&p.routing.Backends[m.At]) {
			return
		}
	}
}
