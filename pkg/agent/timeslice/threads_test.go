package timeslice

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// own is the time slice of the calling thread.
func own(t *testing.T) time.Duration {
	t.Helper()
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(attr.Runtime)
}

// TestCompute: a thread that computes has a long slice while slices are short, and then what
// all have, also if that has changed meanwhile.
func TestCompute(t *testing.T) {
	if !supported() { // by this kernel: it must not mind
		var threads Threads
		if err := threads.Set(true); err != nil {
			t.Fatal(err)
		}
		if threads.Compute() {
			threads.Computed()
		}
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	kernel := own(t)
	defer func() {
		if err := Set(0); err != nil {
			t.Error(err)
		}
	}()
	var threads Threads
	if threads.Compute() {
		t.Error("a goroutine has its own thread without need")
	}
	if err := threads.Set(true); err != nil {
		t.Fatal(err)
	}
	for _, after := range []struct {
		short bool
		want  time.Duration
	}{{true, Short}, {false, kernel}} {
		if !threads.Compute() || own(t) != Long {
			t.Errorf("a thread that computes has %v", own(t))
		}
		if err := threads.Set(after.short); err != nil {
			t.Fatal(err)
		}
		threads.Computed()
		if got := own(t); got != after.want {
			t.Errorf("then it has %v, want %v", got, after.want)
		}
	}
}

// TestBegin: another thread can end what one has begun, and Set meanwhile has its way.
func TestBegin(t *testing.T) {
	var threads Threads
	if got := threads.Begin(); got != 0 {
		t.Errorf("thread %d has a long slice without need", got)
	}
	if !supported() {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	kernel := own(t)
	defer func() {
		if err := Set(0); err != nil {
			t.Error(err)
		}
	}()
	if err := threads.Set(true); err != nil {
		t.Fatal(err)
	}
	for _, after := range []struct {
		short bool
		want  time.Duration
	}{{true, Short}, {false, kernel}} {
		thread := threads.Begin()
		if thread != unix.Gettid() || own(t) != Long {
			t.Errorf("thread %d of %d has a slice of %v, want %v", thread, unix.Gettid(), own(t), Long)
		}
		if err := threads.Set(after.short); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			threads.End(thread)
		}()
		<-done
		if got := own(t); got != after.want {
			t.Errorf("then it has %v, want %v", got, after.want)
		}
	}
}

// BenchmarkBegin: some 4 us while slices are short, with nothing else at work.
func BenchmarkBegin(b *testing.B) {
	var threads Threads
	if err := threads.Set(true); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if thread := threads.Begin(); thread != 0 {
			threads.End(thread)
		}
	}
	b.StopTimer()
	if err := threads.Set(false); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkCompute: some 4 us while slices are short, with nothing else at work.
func BenchmarkCompute(b *testing.B) {
	var threads Threads
	if err := threads.Set(true); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if threads.Compute() {
			threads.Computed()
		}
	}
	b.StopTimer()
	if err := threads.Set(false); err != nil {
		b.Fatal(err)
	}
}
