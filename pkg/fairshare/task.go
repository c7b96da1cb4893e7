package fairshare

import "sync/atomic"

// Task is a goroutine that works for an account. The zero value and the nil Task have no
// account: they never wait. One goroutine uses a Task at a time. (That another one does by
// mistake costs it its place in the order, and no more.)
type Task struct {
	account *Account
	first   bool         // see GoFirst
	running atomic.Bool  // between Resume and Pause
	slot    atomic.Int32 // the one that it holds, or none
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

// GoFirst makes the task go before the others of its account that wait. It is for one that
// does little, and that new work has to pass: it would wait for all the work that is there.
func (t *Task) GoFirst() { t.first = true }

// Account returns what the task is charged to.
func (t *Task) Account() *Account {
	if t == nil {
		return nil
	}
	return t.account
}

// Contended reports whether others may want the processor: long work is to be done in
// pieces, with a Resume before each.
func (t *Task) Contended() bool {
	return t != nil && t.account != nil && t.account.scheduler.gated.Load()
}

// Resume begins or goes on with work. Under contention it waits until the account has a
// slot for it, and in the middle of long work it lets others go first that wait.
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
		t.slot.Store(none)
		t.began.Store(now())
	case s.waiting.Load() != 0 || !s.take(t):
		s.wait(t)
	}
}

// mayGoOn reports whether a task that runs may work on as it is. One that has no slot, as
// it began before there was contention or kept its slot too long, needs one.
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
