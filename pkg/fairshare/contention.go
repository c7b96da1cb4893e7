package fairshare

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// window is how often the scheduler looks for contention while there is work.
	window = 20 * time.Millisecond
	// afterwards is how long slots are needed after there was contention.
	afterwards = time.Second
	// busyShare is the smallest part of the processors, in percent, that the program uses
	// when there is contention.
	busyShare = 10
	// many is the number of waiting tasks from which on there is a crowd.
	many = 32
)

// contention tells whether several accounts want the processors.
type contention struct {
	processors int
	always     bool        // in tests
	gated      atomic.Bool // work needs a slot; changed under mu

	crowded atomic.Bool // many tasks have waited at once, within the window

	owner  atomic.Pointer[Account] // the account whose task has paused last
	mixed  atomic.Bool             // tasks of several accounts have paused within the window
	window atomic.Int64            // when the window began

	// The scheduler's mu guards these.
	used  int64 // processor time of the program at the begin of the window
	until int64 // slots are needed until then
	// onCrowd is called when there is a crowd, and when there was none for some time.
	onCrowd      func(bool)
	onContention func(bool) // called when gated changes
	crowdedUntil int64      // 0: there is none
}

// OnCrowd sets the function that is called with true when many tasks begin to wait at once,
// and with false some time after that has ended. It must be called before the scheduler is used. f must not use
// the scheduler.
func (s *Scheduler) OnCrowd(f func(crowd bool)) { s.onCrowd = f }

// OnContention sets the function that is called with true when several accounts begin to want
// the processors, and with false some time after that has ended. It must be called before the
// scheduler is used. f must not use the scheduler.
func (s *Scheduler) OnContention(f func(contended bool)) { s.onContention = f }

// gate sets whether work needs a slot. The caller holds mu.
func (s *Scheduler) gate(on bool) {
	if s.gated.Swap(on) != on && s.onContention != nil {
		s.onContention(on)
	}
}

// paused notes that a task of an account has worked until a time.
func (s *Scheduler) paused(a *Account, at int64) {
	// Once in a window, because a write evicts the cache line, which all processors read.
	if last := s.owner.Load(); last != a && !s.mixed.Load() {
		s.owner.Store(a)
		s.mixed.Store(last != nil)
	}
	if began := s.window.Load(); at-began > int64(window) && s.window.CompareAndSwap(began, at) {
		s.judge(at, at-began)
	}
}

// judge decides at the end of a window whether work needs slots.
func (s *Scheduler) judge(at, length int64) {
	mixed, crowded := s.mixed.Swap(false), s.crowded.Swap(false)
	used := processTime()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.onCrowd != nil {
		switch was := s.crowdedUntil != 0; {
		case crowded:
			s.crowdedUntil = at + int64(afterwards)
			if !was {
				s.onCrowd(true)
			}
		case was && at > s.crowdedUntil:
			s.crowdedUntil = 0
			s.onCrowd(false)
		}
	}
	busy := 100*(used-s.used) >= busyShare*int64(s.processors)*length
	s.used = used
	switch {
	case s.always:
	case mixed && busy:
		s.gate(true)
		s.until = at + int64(afterwards)
	case at > s.until && s.waiting.Load() == 0:
		s.gate(false)
	}
}

// processTime is the processor time of this program, in nanoseconds.
func processTime() int64 {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // 0: nothing is busy
	return u.Utime.Nano() + u.Stime.Nano()
}
