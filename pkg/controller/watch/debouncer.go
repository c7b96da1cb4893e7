package watch

import (
	"sync"
	"time"
)

// Debounce is the shortest time between two signals of a Debouncer.
const Debounce = 20 * time.Millisecond

// Debouncer signals changes. The first change is signalled at once. The changes
// within Debounce after it give one signal at the end of that time.
type Debouncer struct {
	c chan struct{} // buffered, one

	mu      sync.Mutex
	last    time.Time
	waiting bool
}

// NewDebouncer returns a Debouncer to which nothing has changed yet.
func NewDebouncer() *Debouncer { return &Debouncer{c: make(chan struct{}, 1)} }

// C returns the channel that receives the signals.
func (d *Debouncer) C() <-chan struct{} { return d.c }

// Waiting reports whether a signal is still to come.
func (d *Debouncer) Waiting() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waiting
}

// Trigger says that something has changed.
func (d *Debouncer) Trigger() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting {
		return
	}
	if wait := Debounce - time.Since(d.last); wait > 0 {
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
func (d *Debouncer) fire() {
	d.last = time.Now()
	select {
	case d.c <- struct{}{}:
	default:
	}
}
