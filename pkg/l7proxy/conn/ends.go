package conn

import (
	"runtime"
	"sync"
)

// ends begins goroutines for the ends of connections that were noticed where nothing may wait,
// by the reader of a shared connection: a few at a time. When a pod ends thousands of streams at
// once, what has become ready after them would otherwise wait for all that their ends cost.
type ends struct {
	mu      sync.Mutex
	waiting []func()
	begins  bool // a goroutine begins them
}

// endsInRow is how many are begun before others run.
const endsInRow = 8

// add has f called in a goroutine. It does not wait.
func (e *ends) add(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting = append(e.waiting, f)
	if !e.begins {
		e.begins = true
		go e.begin()
	}
}

func (e *ends) begin() {
	for {
		some := e.next()
		for _, f := range some {
			go f()
		}
		if len(some) == 0 {
			return
		}
		runtime.Gosched()
	}
}

// next takes the first ones that wait. None: the goroutine that begins them ends.
func (e *ends) next() (some []func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := min(endsInRow, len(e.waiting))
	if n == 0 {
		e.waiting, e.begins = nil, false
		return nil
	}
	some = make([]func(), n)
	copy(some, e.waiting)
	clear(e.waiting[:n])
	e.waiting = e.waiting[n:]
	return some
}
