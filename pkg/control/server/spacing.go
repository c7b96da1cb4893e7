package server

import (
	"sync"
	"time"
)

// spacing allows one event per refusalsEvery.
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
