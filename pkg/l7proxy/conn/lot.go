package conn

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/rawio"
)

// Lot is where the readers of connections wait that carry nothing for a while, such as the
// directions of relays: without a goroutine, whose stack would be most of what an idle connection
// holds. The zero value is ready; Close ends it.
type Lot struct {
	waits  rawio.Waits
	parked atomic.Int64 // readers without a goroutine
	closed atomic.Bool

	mu    sync.Mutex
	first *direction // of the directions that have a goroutine: a list
	looks []*direction
	rests atomic.Int64 // of the last Tell; tests read it
}

// Those that are to give their goroutines up are told so a few at a time, with rests between.
// Otherwise all of a thousand connections that were opened in the same second would wake up at
// once, and what became ready after them would wait for all of them.
const (
	asksAtOnce = 16
	askRest    = time.Millisecond
	// askWithin is about how long a look takes at most: where there are very many, more are told
	// at a time.
	askWithin = 500 * time.Millisecond
)

// Look has the directions give their goroutines up that have carried nothing since the last call
// but one. One goroutine calls it, again and again. It takes up to half a second.
func (l *Lot) Look() {
	l.mu.Lock()
	for d := l.first; d != nil; d = d.next {
		l.looks = append(l.looks, d)
	}
	l.mu.Unlock()
	l.Tell(len(l.looks), func(i int) bool { return l.looks[i].look() })
	clear(l.looks)
	l.looks = l.looks[:0]
}

// Tell tells n readers to give their goroutines up, a few at a time: each by a call that reports
// whether the reader has one to give up.
func (l *Lot) Tell(n int, tell func(i int) bool) {
	told, atOnce := 0, max(asksAtOnce, n/int(askWithin/askRest))
	l.rests.Store(0)
	for i := range n {
		if !tell(i) {
			continue
		}
		if told++; told%atOnce == 0 && !l.closed.Load() {
			time.Sleep(askRest)
			l.rests.Add(1)
		}
	}
}

// Parked is the number of readers that wait without a goroutine.
func (l *Lot) Parked() int { return int(l.parked.Load()) }

// Close has those that wait go on in goroutines. A Look that is under way has no more rests.
func (l *Lot) Close() error {
	l.closed.Store(true)
	return l.waits.Close()
}

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
// look. It reports whether it has.
func (d *direction) look() (told bool) {
	if now := d.n.Load(); now != d.had || !d.looked {
		d.had, d.looked = now, true
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.state.CompareAndSwap(waiting, asked) {
		return false
	}
	_ = d.raw.SetReadDeadline(aLongTimeAgo)
	return true
}
