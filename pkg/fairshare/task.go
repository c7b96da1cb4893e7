package fairshare

import (
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/monotime"
)

// Task is a goroutine that works for an account. The zero value and the nil Task have no
// account: they never wait. One goroutine uses a Task at a time. If a second one uses it by
// mistake, the only harm is that the order of the tasks is not kept.
type Task struct {
	account *Account
	first   bool         // see GoFirst
	running atomic.Bool  // between Resume and Pause
	slot    atomic.Int32 // the one that it holds, or none
	thread  atomic.Int64 // that Threads.End is to be called with; 0: none
	began   atomic.Int64 // when it got the slot, or resumed without one

	// The scheduler's mu guards these.
	queued bool
	next   *Task
	wake   chan struct{} // made when the task first waits
}

// none is the slot of a task that works without one.
const none = -1

// Charge makes the task work for an account. It must not be running.
func (t *Task) Charge(a *Account) { t.account = a }

// GoFirst puts the task before the other waiting tasks of its account. It is for a task that
// does little and that all new work depends on, such as accepting connections: otherwise new
// work would wait for all earlier work.
func (t *Task) GoFirst() { t.first = true }

// Account returns what the task is charged to.
func (t *Task) Account() *Account {
	if t == nil {
		return nil
	}
	return t.account
}

// Contended reports whether other accounts may want the processor. The caller then divides
// long work into pieces, and calls Resume before each of them.
func (t *Task) Contended() bool {
	return t != nil && t.account != nil && t.account.scheduler.gated.Load()
}

// Resume begins or continues work. Under contention it waits until the task has a slot. In
// the middle of long work it lets waiting tasks go first.
func (t *Task) Resume() {
	if t == nil || t.account == nil {
		return
	}
	s := t.account.scheduler
	if t.running.Load() {
		if t.mayGoOn() {
			return
		}
		t.Pause()
	}
	t.running.Store(true)
	switch {
	case !s.gated.Load():
		if t.slot.Load() != none { // a write takes longer
			t.slot.Store(none)
		}
		t.began.Store(now())
	case s.waiting.Load() != 0 || !s.take(t):
		s.wait(t)
	}
}

// Began returns when the task began to work last, by monotime.Now; 0: it never has.
func (t *Task) Began() time.Duration {
	if t == nil {
		return 0
	}
	return time.Duration(t.began.Load())
}

// Woken returns when the task began to work after a wait, by monotime.Now. before is what Began has
// returned before the wait. It reads the clock only if the task has not waited.
func (t *Task) Woken(before time.Duration) time.Duration {
	if at := t.Began(); at != before {
		return at
	}
	return monotime.Now()
}

// mayGoOn reports whether a running task may continue with what it has. A task without a
// slot needs one: it began before there was contention, or it kept its slot too long.
func (t *Task) mayGoOn() bool {
	s, slot := t.account.scheduler, t.slot.Load()
	if slot == none {
		return !s.gated.Load()
	}
	return s.slots[slot].task.Load() == t && (s.waiting.Load() == 0 || now()-t.began.Load() < int64(slice))
}

// Pause ends work for now: the goroutine is about to wait, or ends. It does nothing if the
// task is not running.
func (t *Task) Pause() {
	if t == nil || t.account == nil || !t.running.Load() {
		return
	}
	t.running.Store(false)
	t.tellOver()
	s, slot, began, at := t.account.scheduler, t.slot.Load(), t.began.Load(), now()
	if slot != none && !s.slots[slot].task.CompareAndSwap(t, nil) {
		return // it was kept too long, and charged then
	}
	t.account.used.Add(at - began)
	if slot != none && s.waiting.Load() > 0 {
		s.release()
	}
	s.paused(t.account, at)
}

// tellOver tells Threads that the turn is over, if it was told of it.
func (t *Task) tellOver() {
	if thread := t.thread.Swap(0); thread != 0 {
		t.account.scheduler.threads.End(int(thread))
	}
}
