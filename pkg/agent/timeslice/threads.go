package timeslice

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Threads has the time slices of this process's threads. The zero value is ready: they have the
// kernel's own. Its methods are safe for concurrent use, but for Set.
type Threads struct {
	short atomic.Bool // they have Short
}

// Set gives all threads short slices, or the kernel's own. An error means that the kernel
// refuses them: then slices stay as they are, or some of them. One goroutine at a time may call
// it.
func (t *Threads) Set(short bool) error {
	t.short.Store(short)
	return Set(slice(short))
}

func slice(short bool) time.Duration {
	if short {
		return Short
	}
	return 0
}

// Compute says that the calling goroutine computes from now on for about a millisecond or
// more without a wait. While slices are short its thread gets Long, and is its own until
// Computed. It reports whether that is so; then the goroutine must call Computed before it
// waits or ends. Both together cost some 4 us.
func (t *Threads) Compute() bool {
	if !t.short.Load() {
		return false
	}
	runtime.LockOSThread()
	if set(0, Long) != nil {
		runtime.UnlockOSThread()
		return false
	}
	return true
}

// Computed ends Compute.
func (t *Threads) Computed() {
	t.reset(0)
	runtime.UnlockOSThread()
}

// Begin gives the calling goroutine's thread Long while slices are short, and returns the
// thread's ID, with which End must be called soon; 0: its slice is what it was. The thread does
// not become the goroutine's own: if the goroutine moves to another one, it has its slice.
// Both together cost some 4 us.
func (t *Threads) Begin() (thread int) {
	if !t.short.Load() {
		return 0
	}
	if thread = unix.Gettid(); set(thread, Long) != nil {
		return 0
	}
	return thread
}

// End ends Begin. Any goroutine may call it.
func (t *Threads) End(thread int) { t.reset(thread) }

// reset gives a thread what all have; 0: the calling one. Set may change that meanwhile, and
// have seen the thread already.
func (t *Threads) reset(thread int) {
	for again := true; again; {
		short := t.short.Load()
		_ = set(thread, slice(short)) // a thread that has ended has none
		again = t.short.Load() != short
	}
}
