package timeslice

import (
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// slices returns the time slice of each thread of this process.
func slices(t *testing.T) map[int]time.Duration {
	t.Helper()
	threads, err := os.ReadDir(tasks)
	if err != nil {
		t.Fatal(err)
	}
	all := map[int]time.Duration{}
	for _, thread := range threads {
		tid, err := strconv.Atoi(thread.Name())
		if err != nil {
			t.Fatal(err)
		}
		if attr, err := unix.SchedGetAttr(tid, 0); err == nil { // else it has ended
			all[tid] = time.Duration(attr.Runtime)
		}
	}
	return all
}

// supported reports whether the kernel has slices of threads, which came with Linux 6.12.
func supported() bool {
	attr, err := unix.SchedGetAttr(0, 0)
	return err == nil && attr.Runtime != 0
}

// TestSet: all threads have the slice, and those that start later, until they get the kernel's
// own again.
func TestSet(t *testing.T) {
	if !supported() { // by this kernel: it must not mind
		if err := Set(Short); err != nil {
			t.Fatal(err)
		}
		return
	}
	nice, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := Set(Short); err != nil {
		t.Fatal(err)
	}
	before := len(slices(t))
	var started, over sync.WaitGroup
	release := make(chan struct{})
	for range before + 4 { // more than there are threads
		started.Add(1)
		over.Go(func() {
			runtime.LockOSThread()
			started.Done()
			<-release
		})
	}
	started.Wait()
	after := slices(t)
	close(release)
	over.Wait()
	if len(after) <= before {
		t.Errorf("got %d threads, want more than the %d before", len(after), before)
	}
	for tid, got := range after {
		if got != Short {
			t.Errorf("thread %d: got a slice of %v, want %v", tid, got, Short)
		}
	}
	if attr, err := unix.SchedGetAttr(0, 0); err != nil || attr.Nice != nice.Nice || attr.Policy != nice.Policy {
		t.Errorf("got %+v, %v, want the niceness and the policy of before: %+v", attr, err, nice)
	}
	if err := Set(0); err != nil {
		t.Fatal(err)
	}
	for tid, got := range slices(t) {
		if got != time.Duration(nice.Runtime) {
			t.Errorf("thread %d: got a slice of %v after Set(0), want that of before, %v", tid, got, time.Duration(nice.Runtime))
		}
	}
}
