package upstream

import (
	"sync"
	"time"
)

// stallDetector knows whether this process stood still for a while: it was
// stopped, or its machine was frozen. Time limits that passed meanwhile say
// nothing about the peers.
type stallDetector struct {
	mu   sync.Mutex
	seen time.Time // when it was last seen to run
	end  time.Time // of the last standstill
}

// stallAtLeast is the shortest gap that counts; tick is to be called in
// half that time or less.
const stallAtLeast = 2 * WatchEvery

// tick tells that the process runs.
func (s *stallDetector) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.seen.IsZero() && now.Sub(s.seen) >= stallAtLeast {
		s.end = now
	}
	s.seen = now
}

// since reports whether the process stood still at some time after began. It
// does not rely on a tick after the standstill.
func (s *stallDetector) since(began time.Time) bool {
	s.mu.Lock()
	running := !s.seen.IsZero()
	s.mu.Unlock()
	if !running {
		return false // nobody ticks
	}
	s.tick()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end.After(began)
}
