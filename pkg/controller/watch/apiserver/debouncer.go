package apiserver

import (
	"sync"
	"time"
)

// debounce is the shortest time between two signals: the changes of a burst are one.
const debounce = 20 * time.Millisecond

// debouncer passes on that something changed: the first change at once, those
// that follow within the debounce time as one, at its end.
type debouncer struct {
	c chan struct{} // buffered, one

	mu      sync.Mutex
	last    time.Time
	waiting bool
}

func newDebouncer() *debouncer { return &debouncer{c: make(chan struct{}, 1)} }

func (d *debouncer) trigger() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting {
		return
	}
	if wait := debounce - time.Since(d.last); wait > 0 {
		d.waiting = true
		time.AfterFunc(wait, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.waiting = false
			d.fire()
		})
		return
	}
	d.fire()
}

// fire is called with d.mu held.
func (d *debouncer) fire() {
	d.last = time.Now()
	select {
	case d.c <- struct{}{}:
	default:
	}
}
