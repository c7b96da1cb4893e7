package client

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Bounds of what is reported of keys that are not known. Tokens are sent by anybody.
const (
	staleMost  = 64               // sources that wait to be reported
	staleEvery = 10 * time.Second // the least time between two reports
)

// staleKeys are the sources of keys (authz.TokenRule.Source) that lack the key of a token.
type staleKeys struct {
	wake chan struct{} // receives when there is something to take

	mu      sync.Mutex
	sources map[string]bool
	timer   *time.Timer // runs until the next report may be sent; nil: it may be sent now
}

func newStaleKeys() *staleKeys {
	return &staleKeys{wake: make(chan struct{}, 1), sources: map[string]bool{}}
}

func (s *staleKeys) add(source string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sources[source] || len(s.sources) >= staleMost {
		return
	}
	s.sources[source] = true
	if s.timer == nil {
		s.wakeUp()
	}
}

func (s *staleKeys) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// take returns what is to be reported.
func (s *staleKeys) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Sorted(maps.Keys(s.sources))
	clear(s.sources)
	if len(out) > 0 && s.timer == nil {
		s.timer = time.AfterFunc(staleEvery, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.timer = nil
			if len(s.sources) > 0 {
				s.wakeUp()
			}
		})
	}
	return out
}

// StaleKeys reports to the controller that a token has a key which a source of keys lacks. It
// does not wait.
func (c *Client) StaleKeys(source string) { c.stale.add(source) }
