package fairshare

import "sync/atomic"

// Task is a goroutine that works for an account. The zero value and the nil Task have no
// account: they never wait. One goroutine uses a Task at a time. (That another one does by
// mistake costs it its place in the order, and no more.)
type Task struct {
	account *Account
	running atomic.Bool  // between Resume and Pause
	slot    atomic.Int32 // the one that it holds, or held last
	began   atomic.Int64 // when it got the slot

	// The scheduler's mu guards these.
	queued bool
	next   *Task
	wake   chan struct{} // made when the task first waits
}

// Charge makes the task work for an account. It must not be running.
func (t *Task) Charge(a *Account) { t.account = a }

// Account returns what the task is charged to.
func (t *Task) Account() *Account {
	if t == nil {
		return nil
	}
	return t.account
}

// Resume begins or goes on with work. It waits until the account has a slot for it. In the
// middle of long work it lets others go first that wait.
func (t *Task) Resume() {
	if t == nil || t.account == nil {
		return
	}
	s := t.account.scheduler
	if t.running.Load() {
		if s.waiting.Load() == 0 || now()-t.began.Load() < int64(slice) {
			return
		}
		t.Pause()
	}
	t.running.Store(true)
	if s.waiting.Load() == 0 && s.take(t) {
		return
	}
	s.wait(t)
}

// Pause ends work for now: the goroutine is about to wait, or ends. It does nothing if the
// task is not running.
func (t *Task) Pause() {
	if t == nil || t.account == nil || !t.running.Load() {
		return
	}
	t.running.Store(false)
	s := t.account.scheduler
	began := t.began.Load()
	if !s.slots[t.slot.Load()].task.CompareAndSwap(t, nil) {
		return // it was kept too long, and charged then
	}
	t.account.used.Add(now() - began)
	if s.waiting.Load() > 0 {
		s.release()
	}
}
