package fairshare

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// spin works for d.
func spin(d time.Duration) {
	for began := now(); now()-began < int64(d); {
	}
}

// TestSlots: no more tasks run at once than there are slots, with the spare ones.
func TestSlots(t *testing.T) {
	for _, slots := range []int{1, 2, 5} {
		s := NewContended(slots + 1)
		s.keep = time.Hour // however slow the machine is
		var running, most atomic.Int64
		var tasks sync.WaitGroup
		for range 4 {
			a := s.Account()
			for range 8 {
				tasks.Go(func() {
					var task Task
					task.Charge(a)
					for range 300 {
						task.Resume()
						n := running.Add(1)
						for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
						}
						runtime.Gosched()
						running.Add(-1)
						task.Pause()
					}
				})
			}
		}
		tasks.Wait()
		if got := most.Load(); got > int64(2*slots) {
			t.Errorf("%d slots and as many spare ones: %d tasks ran at once", slots, got)
		}
		if held, waiting := s.Busy(); held != 0 || waiting != 0 || len(s.queue) != 0 {
			t.Errorf("%d slots: at the end %d are held, %d tasks wait, %d accounts are in the queue", slots, held, waiting, len(s.queue))
		}
	}
}

// crowd makes tasks of an account wait for the only slot, and returns when all of them do.
// Each adds its name to the order when it gets the slot, and leaves it.
type crowd struct {
	t     *testing.T
	s     *Scheduler
	tasks sync.WaitGroup
	mu    sync.Mutex
	order []string
}

func (c *crowd) wait(name string, a *Account, tasks int) {
	c.t.Helper()
	_, before := c.s.Busy()
	for range tasks {
		c.tasks.Go(func() {
			var task Task
			task.Charge(a)
			task.Resume()
			c.mu.Lock()
			c.order = append(c.order, name)
			c.mu.Unlock()
			a.used.Add(int64(50 * time.Microsecond)) // beside what it really takes
			task.Pause()
		})
	}
	for {
		if _, waiting := c.s.Busy(); waiting == before+tasks {
			return
		}
		runtime.Gosched()
	}
}

// held returns a scheduler with one slot, and a task that holds it.
func held() (*Scheduler, *Task) {
	s := NewContended(2)
	s.keep = time.Hour
	holder := new(Task)
	holder.Charge(s.Account())
	holder.Resume()
	return s, holder
}

// TestQuietGoesFirst: who comes last, of an account that has used little, goes before all
// tasks of the account that has used much, however little it has used in itself.
func TestQuietGoesFirst(t *testing.T) {
	s, holder := held()
	c := crowd{t: t, s: s}
	greedy, quiet := s.Account(), s.Account()
	s.virtual = int64(time.Second)
	greedy.virtual, quiet.virtual = s.virtual, s.virtual-int64(spare/2)
	c.wait("greedy", greedy, 32)
	c.wait("quiet", quiet, 1)
	holder.Pause()
	c.tasks.Wait()
	if c.order[0] != "quiet" {
		t.Errorf("got the order %v, want the quiet one first", c.order)
	}
}

// TestAccountsTakeTurns: accounts that wait get the same time, however many tasks they have.
func TestAccountsTakeTurns(t *testing.T) {
	s, holder := held()
	takeTurns(t, s, holder, contender{s.Account(), 90, 1}, contender{s.Account(), 10, 1})
}

// TestPast: an account is neither ahead for what it did not use while it was idle, nor
// behind for what it used while nobody waited.
func TestPast(t *testing.T) {
	s, holder := held()
	s.virtual = int64(time.Hour)
	c := crowd{t: t, s: s}
	idle, busy := s.Account(), s.Account()
	busy.virtual, busy.settled = s.virtual, 0
	busy.used.Store(int64(time.Minute))
	var task Task // it gets a spare slot
	task.Charge(idle)
	task.Resume()
	c.wait("busy", busy, 1)
	if got, want := idle.virtual, s.virtual-int64(credit); got != want {
		t.Errorf("idle: got the virtual time %v, want %v", time.Duration(got), time.Duration(want))
	}
	if got, want := busy.virtual, s.virtual+int64(debt); got != want {
		t.Errorf("busy: got the virtual time %v, want %v", time.Duration(got), time.Duration(want))
	}
	task.Pause()
	holder.Pause()
	c.tasks.Wait()
}

// TestOvertime: who keeps a slot too long loses it to one that waits, and takes nothing
// from that one when it ends.
func TestOvertime(t *testing.T) {
	s := NewContended(2)
	var keeper, other Task
	keeper.Charge(s.Account())
	other.Charge(s.Account())
	keeper.Resume()
	other.Resume() // returns because of the timer
	if used := keeper.Account().Used().Processor; used < overtime {
		t.Errorf("the keeper is charged with %v, want %v at least", used, overtime)
	}
	keeper.Pause()
	if held, _ := s.Busy(); held != 1 {
		t.Errorf("%d slots are held, want the other one's", held)
	}
	other.Pause()
	if held, _ := s.Busy(); held != 0 {
		t.Errorf("%d slots are held at the end", held)
	}
	if w := other.Account().Used(); w.Waits != 1 || w.Waited <= 0 {
		t.Errorf("got %+v, want a wait", w)
	}
}

// TestLongWorkYields: in the middle of long work, a task lets another one go first.
func TestLongWorkYields(t *testing.T) {
	s, holder := held()
	c := crowd{t: t, s: s}
	c.wait("other", s.Account(), 1)
	spin(2 * slice)
	holder.Resume()
	if c.tasks.Wait(); len(c.order) != 1 {
		t.Errorf("got the order %v, want the other one", c.order)
	}
	holder.Pause()
}

// TestRunningTaskTakesSlot: a task that runs without a slot, because there was no contention
// when it began or because it kept its slot too long, takes one when it goes on.
func TestRunningTaskTakesSlot(t *testing.T) {
	s := New(2)
	task, other := new(Task), new(Task)
	task.Charge(s.Account())
	other.Charge(s.Account())
	holds := func(want *Task) {
		t.Helper()
		if got := s.slots[0].task.Load(); got != want {
			t.Errorf("got %p in the slot, want %p", got, want)
		}
	}
	task.Resume()
	holds(nil)
	s.always = true
	s.gated.Store(true)
	task.Resume()
	holds(task)
	other.Resume() // task is in overtime
	holds(other)
	other.Pause()
	holds(nil)
	task.Resume()
	holds(task)
	task.Pause()
	holds(nil)
}

// TestNoAccount: a task without an account never waits, nor does the nil Task.
func TestNoAccount(t *testing.T) {
	var task, none *Task = new(Task), nil
	var scheduler *Scheduler
	task.Charge(scheduler.Account())
	for _, t := range []*Task{task, none} {
		t.Resume()
		t.Pause()
	}
	if used := none.Account().Used(); used != (Used{}) {
		t.Errorf("got %+v, want nothing used", used)
	}
}

// TestContention: work needs slots while two accounts keep the program busy, and for a
// second after that, and not where one does.
func TestContention(t *testing.T) {
	s := New(2)
	one, two := new(Task), new(Task)
	one.Charge(s.Account())
	two.Charge(s.Account())
	work := func(tasks ...*Task) {
		for began := now(); now()-began < int64(10*window); {
			for _, task := range tasks {
				task.Resume()
				spin(time.Millisecond)
				task.Pause()
			}
		}
	}
	work(one)
	if s.gated.Load() {
		t.Error("one account alone needs slots")
	}
	// What the program gets of the processors depends on the machine.
	for began := now(); !s.gated.Load() && now()-began < int64(10*time.Second); {
		work(one, two)
	}
	if !s.gated.Load() {
		t.Error("two busy accounts need no slots")
	}
	work(one)
	s.until = 0
	work(one)
	if s.gated.Load() {
		t.Error("slots are needed for ever")
	}
}

func BenchmarkAlone(b *testing.B) { benchmark(b, New(3)) }

func BenchmarkSlot(b *testing.B) { benchmark(b, NewContended(3)) }

func benchmark(b *testing.B, s *Scheduler) {
	var task Task
	task.Charge(s.Account())
	for b.Loop() {
		task.Resume()
		task.Pause()
	}
}

func BenchmarkContended(b *testing.B) {
	s := NewContended(3)
	a := s.Account()
	var tasks sync.WaitGroup
	for range 64 {
		tasks.Go(func() {
			var task Task
			task.Charge(a)
			for range b.N / 64 {
				task.Resume()
				task.Pause()
				runtime.Gosched()
			}
		})
	}
	tasks.Wait()
}
