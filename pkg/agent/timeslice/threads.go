package timeslice

import (
	"runtime"
	"sync/atomic"
	"time"
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
	// Set may change what all have meanwhile, and have seen this thread already.
	for again := true; again; {
		short := t.short.Load()
		_ = set(0, slice(short))
		again = t.short.Load() != short
	}
	runtime.UnlockOSThread()
}
