package fairshare

import (
	"runtime"
	"testing"
	"time"
)

// TestSpare: an account that has used less than its share gets a spare slot, for one task at
// a time, until it has used what it is behind.
func TestSpare(t *testing.T) {
	s, holder := held()
	quiet := s.Account()
	othersUse := func() { // however long the steps here took
		s.mu.Lock()
		s.virtual += int64(time.Second)
		s.mu.Unlock()
	}
	var task Task
	task.Charge(quiet)
	for n := range 3 {
		othersUse()
		task.Resume() // blocks for ever if it waits for the slot
		if held, waiting := s.Busy(); held != 2 || waiting != 0 {
			t.Fatalf("step %d: %d slots are held and %d tasks wait, want 2 and 0", n, held, waiting)
		}
		task.Pause()
	}
	if used := quiet.Used(); used.Processor <= 0 || used.Waits != 0 {
		t.Errorf("it is charged with %v and %d waits, want some time and 0", used.Processor, used.Waits)
	}

	waits := func(why string) (done chan struct{}) {
		done = make(chan struct{})
		go func() {
			defer close(done)
			var other Task
			other.Charge(quiet)
			other.Resume()
			other.Pause()
		}()
		for waiting := 0; waiting != 1; _, waiting = s.Busy() {
			select {
			case <-done:
				t.Fatalf("a task does not wait, want it to wait: %s", why)
			default:
				runtime.Gosched()
			}
		}
		return done
	}
	othersUse()
	task.Resume()
	second := waits("another one of its account has the spare slot")
	task.Pause()
	holder.Pause()
	<-second

	holder.Resume()
	quiet.used.Add(int64(credit))
	late := waits("its account is not behind any more")
	holder.Pause()
	<-late
}

// TestSpareIsBounded: what an account did not use long ago gives it a spare
// slot for no longer than credit.
func TestSpareIsBounded(t *testing.T) {
	s, holder := held()
	defer holder.Pause()
	s.virtual = int64(time.Hour)
	a := s.Account()
	free := 0
	for ; free < 100; free++ {
		s.mu.Lock()
		a.settle()
		a.virtual = min(max(a.virtual, s.virtual-int64(credit)), s.virtual+int64(debt))
		behind := a.virtual <= s.virtual-int64(spare)
		s.mu.Unlock()
		if !behind {
			break
		}
		var task Task
		task.Charge(a)
		task.Resume()
		a.used.Add(int64(100 * time.Microsecond)) // beside what it really takes
		task.Pause()
	}
	if want := int((credit - spare) / (100 * time.Microsecond)); free < 1 || free > want+1 {
		t.Errorf("%d pieces of 0.1 ms in a spare slot, want at most %d", free, want+1)
	}
}
