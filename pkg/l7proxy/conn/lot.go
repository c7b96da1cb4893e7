package conn

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/rawio"
)

// Lot is where the directions of relays wait that carry nothing for a while: without a goroutine,
// whose stack would be most of what an idle connection holds. The zero value is ready; Close ends it.
type Lot struct {
	waits  rawio.Waits
	parked atomic.Int64 // directions without a goroutine

	mu    sync.Mutex
	first *direction // of those that have a goroutine: a list
	looks []*direction
}

// Look has the directions give their goroutines up that have carried nothing since the last call
// but one. One goroutine calls it, again and again.
func (l *Lot) Look() {
	l.mu.Lock()
	for d := l.first; d != nil; d = d.next {
		l.looks = append(l.looks, d)
	}
	l.mu.Unlock()
	for _, d := range l.looks {
		d.look()
	}
	clear(l.looks)
	l.looks = l.looks[:0]
}

// Parked is the number of directions that wait without a goroutine.
func (l *Lot) Parked() int { return int(l.parked.Load()) }

// Close has those that wait go on in goroutines.
func (l *Lot) Close() error { return l.waits.Close() }

// enter notes that d has a goroutine.
func (l *Lot) enter(d *direction) {
	l.mu.Lock()
	d.next = l.first
	if l.first != nil {
		l.first.prev = d
	}
	l.first = d
	l.mu.Unlock()
}

// leave undoes enter.
func (l *Lot) leave(d *direction) {
	l.mu.Lock()
	if d.prev != nil {
		d.prev.next = d.next
	} else {
		l.first = d.next
	}
	if d.next != nil {
		d.next.prev = d.prev
	}
	d.prev, d.next = nil, nil
	l.mu.Unlock()
}

// aLongTimeAgo is a deadline that ends a wait.
var aLongTimeAgo = time.Unix(1, 0)

// The states of a direction that can wait in a Lot.
const (
	working uint32 = iota
	waiting        // its goroutine waits for bytes
	asked          // the same, and it is to give its goroutine up
	parked         // it has no goroutine
)

// look has the direction give its goroutine up, if it waits and has carried nothing since the last
// look.
func (d *direction) look() {
	if now := d.n.Load(); now != d.had || !d.looked {
		d.had, d.looked = now, true
		return
	}
	d.mu.Lock()
	if d.state.CompareAndSwap(waiting, asked) {
		_ = d.raw.SetReadDeadline(aLongTimeAgo)
	}
	d.mu.Unlock()
}
