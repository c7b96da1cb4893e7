package listener

import (
	"sync"

	"github.com/underlane/underlane/pkg/rawio"
)

// workers are goroutines that serve one connection after the other. The stack of a new
// goroutine grows while it serves its first one, by copies of all of it; a worker's has its
// size already.
type workers struct {
	mu    sync.Mutex
	idle  []chan job // the one that became idle last is last, and works next
	loops int        // accept loops that run: without one, nobody needs workers
}

// job is a connection of a group, and what serves it.
type job struct {
	group  *Group
	c      *rawio.Conn
	handle func(*rawio.Conn) Rest
	grown  *growth // the connection is one of its
}

// idleWorkers bounds the workers that wait, and so the memory of their stacks, of mostly
// 8 KiB. A burst of connections starts more, which end with their connections.
const idleWorkers = 32

// begin notes that an accept loop starts.
func (w *workers) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loops++
}

// end notes that an accept loop has ended. With the last one the idle workers end.
func (w *workers) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.loops--; w.loops > 0 {
		return
	}
	for _, ch := range w.idle {
		close(ch)
	}
	w.idle = nil
}

// serve has a worker do j.
func (w *workers) serve(j job) {
	w.mu.Lock()
	n := len(w.idle) - 1
	if n < 0 {
		w.mu.Unlock()
		go w.work(j)
		return
	}
	ch := w.idle[n]
	w.idle = w.idle[:n]
	w.mu.Unlock()
	ch <- j // it has room: the worker has taken itself out of work
}

// work does j, and then what it is given.
func (w *workers) work(j job) {
	ch := make(chan job, 1)
	for ok := true; ok; j, ok = <-ch {
		j.serve()
		if !w.rest(ch) {
			return
		}
		j = job{}
	}
}

// rest notes that the worker of ch is idle. False: it is not needed any more.
func (w *workers) rest(ch chan job) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.loops == 0 || len(w.idle) == idleWorkers {
		return false
	}
	w.idle = append(w.idle, ch)
	return true
}
