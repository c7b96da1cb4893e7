package l7proxy

import (
	"sync"
	"time"
)

// standstill knows whether this process stood still for a while: it was
// stopped, or its machine was frozen. Time limits that passed meanwhile say
// nothing about the peers.
type standstill struct {
	mu   sync.Mutex
	seen time.Time // when it was last seen to run
	end  time.Time // of the last standstill
}

// standstillAtLeast is the shortest gap that counts; tick is to be called in
// half that time or less.
const standstillAtLeast = 2 * watchEvery

// tick tells that the process runs.
func (s *standstill) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.seen.IsZero() && now.Sub(s.seen) >= standstillAtLeast {
		s.end = now
	}
	s.seen = now
}

// since reports whether the process stood still at some time after began. It
// does not rely on a tick after the standstill.
func (s *standstill) since(began time.Time) bool {
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
