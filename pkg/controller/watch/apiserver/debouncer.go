package apiserver

import (
	"sync"
	"time"
)

// debounce is the shortest time between two signals. The changes of a burst become
// one signal.
const debounce = 20 * time.Millisecond

// debouncer signals changes. The first change is signalled at once. The changes
// within the debounce time after it give one signal at the end of that time.
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

// fire sends the signal. The caller holds d.mu.
func (d *debouncer) fire() {
	d.last = time.Now()
	select {
	case d.c <- struct{}{}:
	default:
	}
}
