package h1

import (
	"runtime"
	"sync"

	"github.com/underlane/underlane/pkg/fairshare"
)

// leavers passes on that clients have hung up while they waited for a response, a few at a
// time. Where a pod with thousands of requests under way closes all of them, a goroutine for
// each would have the others wait behind all that they do.
type leavers struct {
	mu      sync.Mutex
	waiting []*link // each within its pod's limit of connections
	workers int
}

// leaversAtOnce is how many are passed on at a time. One may wait for its pod's turn.
const leaversAtOnce = 4

func (l *leavers) add(d *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, d)
	if l.workers < leaversAtOnce {
		l.workers++
		go l.work()
	}
}

func (l *leavers) work() {
	var task fairshare.Task
	task.GoFirst() // it ends the work that others of the account wait for
	for d := l.next(); d != nil; d = l.next() {
		task.Charge(d.s.Task.Account())
		task.Resume()
		d.passHangup()
		task.Pause()
		runtime.Gosched()
	}
}

// next takes the one that waits longest. nil: there is none, and the worker ends.
func (l *leavers) next() *link {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		l.waiting = nil
		l.workers--
		return nil
	}
	d := l.waiting[0]
	l.waiting[0] = nil
	l.waiting = l.waiting[1:]
	return d
}
