package fairshare

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// told notes what a scheduler tells of turns.
type told struct {
	mu   sync.Mutex
	next int
	runs []int // threads in a turn
	had  int   // turns
}

func (t *told) Begin() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	t.had++
	t.runs = append(t.runs, t.next)
	return t.next
}

func (t *told) End(thread int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := slices.Index(t.runs, thread)
	if n < 0 {
		panic("a turn has ended that has not begun")
	}
	t.runs = slices.Delete(t.runs, n, n+1)
}

// counts has how many turns are told to be under way, and how many ever were.
type counts struct{ running, had int }

func (t *told) count() counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return counts{len(t.runs), t.had}
}

// awaitWaiting waits until so many tasks wait.
func awaitWaiting(s *Scheduler, n int64) {
	for s.waiting.Load() != n {
		runtime.Gosched()
	}
}

// TestTell: a turn that was waited for is told, from its begin to its end. Work that did not
// wait, and that of an account with a spare slot, is not.
func TestTell(t *testing.T) {
	s, holder := held()
	threads := new(told)
	s.Tell(threads)
	expect := func(when string, running, had int) {
		t.Helper()
		if got := threads.count(); got != (counts{running, had}) {
			t.Fatalf("%s: turns are %+v, want %+v", when, got, counts{running, had})
		}
	}
	quiet := new(Task)
	quiet.Charge(s.Account())
	s.mu.Lock()
	s.virtual = int64(time.Second)
	s.mu.Unlock()
	quiet.Resume()
	expect("a spare slot", 0, 0)
	quiet.Pause()

	c := crowd{t: t, s: s}
	greedy := s.Account()
	greedy.virtual = s.virtual
	c.wait("greedy", greedy, 3)
	expect("while they wait", 0, 0)
	holder.Pause()
	c.tasks.Wait()
	expect("each has had its turn", 0, 3)

	holder.Resume()
	expect("a slot was free", 0, 3)
	has, goOn := make(chan struct{}), make(chan struct{})
	var long Task
	long.Charge(greedy)
	c.tasks.Go(func() {
		long.Resume()
		has <- struct{}{}
		<-goOn
		for threads.count() == (counts{1, 4}) {
			long.Resume() // in the middle of its work
		}
		has <- struct{}{}
		<-goOn
		long.Pause()
	})
	awaitWaiting(s, 1)
	holder.Pause()
	<-has
	expect("in a turn", 1, 4)
	other := s.Account()
	other.virtual = s.virtual // no spare slot
	c.tasks.Go(func() {
		var another Task
		another.Charge(other)
		another.Resume()
		awaitWaiting(s, 1) // for it
		another.Pause()
	})
	awaitWaiting(s, 1)
	goOn <- struct{}{}
	<-has
	expect("after another one's turn", 1, 6)
	goOn <- struct{}{}
	c.tasks.Wait()
	expect("at the end", 0, 6)
}

// TestTellOvertime: a turn that is kept too long is over for its thread, too, and ends once.
func TestTellOvertime(t *testing.T) {
	s, holder := held()
	threads := new(told)
	s.Tell(threads)
	var task Task
	task.Charge(s.Account())
	task.account.virtual = s.virtual
	has, goOn, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		task.Resume()
		close(has)
		<-goOn
		task.Pause()
	}()
	awaitWaiting(s, 1)
	holder.Pause()
	<-has
	if got := threads.count(); got != (counts{1, 1}) {
		t.Fatalf("in a turn: turns are %+v, want %+v", got, counts{1, 1})
	}
	s.mu.Lock()
	s.revoke(now() + 2*int64(s.keep))
	s.mu.Unlock()
	if got := threads.count(); got != (counts{0, 1}) {
		t.Errorf("kept too long: turns are %+v, want %+v", got, counts{0, 1})
	}
	close(goOn)
	<-done
	if got := threads.count(); got != (counts{0, 1}) {
		t.Errorf("at the end: turns are %+v, want %+v", got, counts{0, 1})
	}
}
