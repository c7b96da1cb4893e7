// Package timeslice asks the kernel to let the agent's threads run soon rather than long, while
// pods contend for them.
package timeslice

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Short is the slice that the agent asks for under contention. The kernel's own is 0.7 to 2.8 ms, by the
// number of processors, and it takes 0.1 ms at least. A thread that becomes ready is let in
// at once before those with longer slices, however much shorter its own is. With 0.1 ms the
// agent's threads interrupt each other so often that a request costs up to a tenth more, and
// with 0.3 ms a gRPC call some 2 %.
const Short = 300 * time.Microsecond

// Long is the slice of a thread that computes for a while, under contention. The kernel looks
// at the end of a slice only when its timer ticks, every 4 ms mostly, and lets a thread that
// becomes ready wait until then if the one that runs has just begun a slice that is as short.
// A thread with a short slice goes before one with a long one at once, so threads that
// compute must have a long one: it takes nothing from their share.
const Long = 20 * time.Millisecond

// tasks has the threads of this process.
const tasks = "/proc/self/task"

// Set sets the time slice of all threads of this process. Threads that they start later
// inherit it. 0 is the kernel's own slice.
//
// The kernel's scheduler gives the processor to the thread with the earliest deadline among
// those that have had less than their share, and the deadline is a slice away (EEVDF; Linux
// sched-eevdf.rst). A thread with a short slice is so let in sooner after each of its many
// short waits, and gets not more than its share. That needs no capability.
//
// Kernels before 6.12 ignore the slice of ordinary threads. An error means that the kernel
// refuses it: then slices stay as they are, or some of them.
func Set(slice time.Duration) error {
	// A thread that starts meanwhile may have been started by one that is not done yet.
	// Another look finds it.
	done := make(map[int]bool)
	for again := true; again; {
		again = false
		threads, err := os.ReadDir(tasks)
		if err != nil {
			return fmt.Errorf("list the threads: %w", err)
		}
		for _, t := range threads {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || done[tid] {
				continue
			}
			done[tid], again = true, true
			if err := set(tid, slice); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("set the time slice of a thread: %w", err)
			}
		}
	}
	return nil
}

func set(tid int, slice time.Duration) error {
	attr, err := unix.SchedGetAttr(tid, 0)
	if err != nil {
		return err
	}
	if !ordinary(attr) || attr.Runtime == uint64(pulseSlice) {
		return nil // it was given another policy, or slice, on purpose
	}
	attr.Runtime = uint64(slice)
	return unix.SchedSetAttr(tid, attr, 0)
}

// reset gives the calling thread, which may have pulseSlice, the kernel's own slice.
func reset() error {
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		return err
	}
	attr.Runtime = 0
	return unix.SchedSetAttr(0, attr, 0)
}

func ordinary(attr *unix.SchedAttr) bool {
	return attr.Policy == unix.SCHED_NORMAL || attr.Policy == unix.SCHED_BATCH
}
