package upstream

import (
	"sync"
	"time"
)

// stallDetector knows whether this process did not run for some time, because it was
// stopped or its machine was frozen. A timeout that expired in a stall says nothing about the
// peer.
type stallDetector struct {
	mu   sync.Mutex
	seen time.Time // the last tick
	end  time.Time // when the last stall ended
}

// stallAtLeast is the shortest time between two ticks that counts as a stall. tick
// must be called at least twice as often.
const stallAtLeast = 2 * WatchEvery

// tick records that the process runs.
func (s *stallDetector) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.seen.IsZero() && now.Sub(s.seen) >= stallAtLeast {
		s.end = now
	}
	s.seen = now
}

// since reports whether the process has stalled at some time after began. It ticks itself,
// so that it sees a stall that has just ended.
func (s *stallDetector) since(began time.Time) bool {
	s.mu.Lock()
	running := !s.seen.IsZero()
	s.mu.Unlock()
	if !running {
		return false // tick was never called
	}
	s.tick()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end.After(began)
}
