package watch

import (
	"sync"
	"time"
)

// pulse passes on that something changed: the first change at once, those
// that follow within debounce as one, when debounce is over.
type pulse struct {
	c chan struct{} // buffered, one

	mu      sync.Mutex
	last    time.Time
	waiting bool
}

func newPulse() *pulse { return &pulse{c: make(chan struct{}, 1)} }

func (p *pulse) touch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting {
		return
	}
	if wait := debounce - time.Since(p.last); wait > 0 {
		p.waiting = true
		time.AfterFunc(wait, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.waiting = false
			p.fire()
		})
		return
	}
	p.fire()
}

// fire is called with p.mu held.
func (p *pulse) fire() {
	p.last = time.Now()
	select {
	case p.c <- struct{}{}:
	default:
	}
}
