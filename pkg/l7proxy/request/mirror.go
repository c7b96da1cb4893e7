package request

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/tap"
)

// Limits of mirroring. They are needed because no request waits for the responses to its
// copies, so that slow copies do not slow down the clients.
const (
	MaxMirrors    = 256
	MirrorTimeout = 15 * time.Second // of one copy
)

// Mirrors counts the copies of requests that are under way. The zero value is ready to
// use.
type Mirrors struct {
	running sync.WaitGroup
	now     atomic.Int64
	dropped atomic.Uint64

	mu     sync.Mutex
	copies map[Copy]struct{} // under way
}

// Copy is a copy of a request under way.
type Copy interface {
	// Rejudge ends the copy if an EgressNetwork does not allow it any more, and reports whether
	// it did. It waits for no peer.
	Rejudge() bool
}

// Track has c judged again by Rejudge, until Untrack.
func (m *Mirrors) Track(c Copy) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.copies == nil {
		m.copies = map[Copy]struct{}{}
	}
	m.copies[c] = struct{}{}
}

// Untrack is called when the copy has ended.
func (m *Mirrors) Untrack(c Copy) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.copies, c)
}

// Rejudge judges the copies under way, MaxMirrors at most, and returns how many it has ended.
func (m *Mirrors) Rejudge() (cut int) {
	m.mu.Lock()
	all := slices.Collect(maps.Keys(m.copies))
	m.mu.Unlock()
	for _, c := range all { // which may end, and be untracked
		if c.Rejudge() {
			cut++
		}
	}
	return cut
}

// Forbidden reports whether an EgressNetwork does not allow a copy of a request of s to the endpoint at
// of a backend. by is the Plan's Egress.
func Forbidden(s *Session, to *destination.Backend, at tap.Peer, by *destination.Egress) bool {
	target, ok := s.Target.(*destination.Outbound)
	return ok && target.Copied(to, at, by) != nil
}

// Dropped counts copies that were not made or got no complete response: because too many
// were under way, there was no endpoint, or the body exceeded the replay limit.
func (m *Mirrors) Dropped() uint64 { return m.dropped.Load() }

// Active counts copies that were begun and have not ended.
func (m *Mirrors) Active() int { return int(m.now.Load()) }

// Drop counts n copies that were not made.
func (m *Mirrors) Drop(n int) { m.dropped.Add(uint64(n)) }

// Enter begins a copy and returns true, or counts it as dropped if MaxMirrors are under
// way. Leave must be called when the copy ends.
func (m *Mirrors) Enter() bool {
	if m.now.Add(1) > MaxMirrors {
		m.now.Add(-1)
		m.dropped.Add(1)
		return false
	}
	m.running.Add(1)
	return true
}

// Leave ends a copy. complete: it got a complete response.
func (m *Mirrors) Leave(complete bool) {
	if !complete {
		m.dropped.Add(1)
	}
	m.now.Add(-1)
	m.running.Done()
}

// Start begins a copy by running send in a new goroutine, unless MaxMirrors are under
// way. ctx ends with parent, or after MirrorTimeout.
func (m *Mirrors) Start(parent context.Context, send func(ctx context.Context) error) {
	if !m.Enter() {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(parent, MirrorTimeout)
		defer cancel()
		m.Leave(send(ctx) == nil)
	}()
}

// Wait waits until no copy is under way.
func (m *Mirrors) Wait() { m.running.Wait() }

// Mirrored yields the backends to which a copy of this request is sent.
func (p *Plan) Mirrored(yield func(*destination.Backend) bool) {
	if p.Action == nil {
		return
	}
	for i := range p.Action.Mirrors {
		if m := &p.Action.Mirrors[i]; m.Wants(rand.Uint64()) && !yield(&p.routing.Backends[m.BackendIndex]) {
			return
		}
	}
}
