// Package fairshare shares the processors of the node's proxy between pods.
//
// Go runs goroutines in the order in which they become ready, and knows nothing of pods. A
// pod with hundreds of busy connections, or with a few that never run out of bytes, would
// make every other pod wait. While several pods want the processors, a goroutine therefore
// works for its pod only while it has a slot. A goroutine that finds no free slot waits. The
// next free slot goes to the pod whose goroutines have used the least time. This is
// start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996), the principle of the shares
// of cgroups.
//
// There are also spare slots, for pods that have used less than their share. Such a pod may
// have one of them. Without it the pod would be the next one to get a slot, but would first
// wait until another pod's slice ends, at each step of each of its requests.
//
// The tasks of one account work in the order in which they begin to wait. The share of an
// account is not divided among the clients of a server. Slots are needed only while several
// accounts want the processors, so a second level would not help the clients of a pod that
// has the processors for itself. If such a pod needed slots as well, it would lose one
// processor: one of two on a small node.
//
// A goroutine that has waited for its turn is told to the kernel, through Threads: what it does
// then must not keep a processor from the goroutine of a pod that has used less.
//
// There is one slot less than there are processors. The last processor waits in the
// netpoller, because Go looks for ready sockets only every 10 ms while all processors are
// busy. While only one pod wants the processors, or there is little work, goroutines need no
// slots, and the package only adds up their time (contention.go).
package fairshare

import (
	"container/heap"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/monotime"
)

const (
	// slice is how long a goroutine works before it lets another one go first.
	slice = 100 * time.Microsecond
	// overtime is how long a goroutine may keep its slot while another one waits. A goroutine
	// that keeps it longer probably waits for something else, such as a lock or a peer.
	overtime = time.Millisecond
	// spare is how far behind the others an account must be to get a spare slot. It can use
	// the rest of credit at once with that slot.
	spare = credit / 2
	// credit and debt bound how far an account that begins to wait is behind the others, or
	// ahead of them. An account therefore cannot save up time that it did not use long ago,
	// and is not charged in full for time that it used while no other account waited.
	credit = 2 * time.Millisecond
	debt   = 10 * time.Millisecond
)

// now is monotime.Now, in nanoseconds.
func now() int64 { return int64(monotime.Now()) }

// Scheduler has the slots, and the accounts of those that wait for one. Its methods are
// safe for concurrent use.
type Scheduler struct {
	contention

	threads Threads
	slots   []slot        // those for all, and as many spare ones
	shared  int           // number of those for all
	keep    time.Duration // overtime, but in tests
	waiting atomic.Int64  // tasks in the queues; changed under mu

	mu      sync.Mutex
	queue   accounts // that have waiting tasks
	virtual int64    // virtual time: that of the account served last
	timer   *time.Timer
	armed   bool // the timer runs
}

// Threads lets other threads of the agent have the processor before one that works in a turn.
// Its methods are called for each turn that was waited for.
type Threads interface {
	// Begin is called by the goroutine whose turn has come. It returns the thread that End is
	// called with when the turn is over, maybe by another goroutine; 0: not at all.
	Begin() (thread int)
	End(thread int)
}

// Tell sets what is told of turns. It must be called before the scheduler is used.
func (s *Scheduler) Tell(t Threads) { s.threads = t }

// slot has the task that holds it. Each is in a cache line of its own.
type slot struct {
	task atomic.Pointer[Task]
	_    [56]byte
}

// New makes a scheduler for a number of processors.
func New(processors int) *Scheduler {
	shared := max(processors-1, 1)
	s := &Scheduler{slots: make([]slot, 2*shared), shared: shared, keep: overtime}
	s.processors = processors
	s.timer = time.AfterFunc(time.Hour, s.look)
	s.timer.Stop()
	return s
}

// NewContended makes a scheduler that takes the processors to be contended at all times. It
// is for tests.
func NewContended(processors int) *Scheduler {
	s := New(processors)
	s.always = true
	s.gated.Store(true)
	return s
}

// Account is what the processor time of a pod is charged to. An Account must have a
// Scheduler; the nil Account has none, and its tasks never wait.
type Account struct {
	scheduler *Scheduler
	used      atomic.Int64 // nanoseconds of work
	waited    atomic.Int64 // nanoseconds of waiting for a slot
	waits     atomic.Uint64
	weight    atomic.Int64 // 0: DefaultWeight

	// The scheduler's mu guards these.
	settled     int64 // the part of used that is in virtual
	virtual     int64 // the account's virtual time
	first, last *Task // those that wait
}

// Account makes an account. It is nil for a nil Scheduler.
func (s *Scheduler) Account() *Account {
	if s == nil {
		return nil
	}
	return &Account{scheduler: s}
}

// Busy returns how many slots are held, and how many goroutines wait for one.
func (s *Scheduler) Busy() (held, waiting int) {
	for n := range s.slots {
		if s.slots[n].task.Load() != nil {
			held++
		}
	}
	return held, int(s.waiting.Load())
}

// Used is what the goroutines of an account have used and waited for.
type Used struct {
	Processor time.Duration // time of work
	Waited    time.Duration // time of waiting for a slot, of all goroutines together
	Waits     uint64
}

// Used returns what was used so far.
func (a *Account) Used() Used {
	if a == nil {
		return Used{}
	}
	return Used{time.Duration(a.used.Load()), time.Duration(a.waited.Load()), a.waits.Load()}
}

// settle moves the account's virtual time on by what was used, divided by its weight.
func (a *Account) settle() {
	used := a.used.Load()
	a.virtual += a.cost(used - a.settled)
	a.settled = used
}

// take takes a free slot for t, and reports whether there was one.
func (s *Scheduler) take(t *Task) bool {
	at := now()
	hint := max(int(t.slot.Load()), 0) % s.shared
	for i := range s.shared {
		n := hint + i
		if n >= s.shared {
			n -= s.shared
		}
		if p := &s.slots[n].task; p.Load() == nil {
			t.began.Store(at)
			if p.CompareAndSwap(nil, t) {
				t.slot.Store(int32(n))
				return true
			}
		}
	}
	return false
}

// lend gives t a spare slot, and reports whether there is one for its account. The caller
// holds mu.
func (s *Scheduler) lend(t *Task) bool {
	free := none
	for n := s.shared; n < len(s.slots); n++ {
		switch holder := s.slots[n].task.Load(); {
		case holder == nil:
			free = n
		case holder.account == t.account:
			return false
		}
	}
	if free == none {
		return false
	}
	t.began.Store(now())
	t.slot.Store(int32(free))
	s.slots[free].task.Store(t)
	return true
}

// wait waits for a slot for t.
func (s *Scheduler) wait(t *Task) {
	a := t.account
	s.mu.Lock()
	if !s.gated.Load() {
		s.mu.Unlock()
		t.slot.Store(none)
		t.began.Store(now())
		return
	}
	if t.queued { // another goroutine waits as this task: that one has the turn
		s.mu.Unlock()
		return
	}
	if a.first == nil {
		a.settle()
		a.virtual = min(max(a.virtual, s.virtual-int64(credit)), s.virtual+int64(debt))
		if a.virtual <= s.virtual-int64(spare) && s.lend(t) {
			s.mu.Unlock()
			return
		}
	}
	if t.wake == nil {
		t.wake = make(chan struct{}, 1)
	}
	t.queued, t.next = true, nil
	if a.first == nil {
		a.first, a.last = t, t
		heap.Push(&s.queue, a)
	} else if t.first {
		t.next, a.first = a.first, t
	} else {
		a.last.next = t
		a.last = t
	}
	if s.waiting.Add(1) >= many { // before the slots are looked at: a task that frees one later sees it
		s.crowded.Store(true)
	}
	began := now()
	s.revoke(began)
	s.grant()
	if s.waiting.Load() > 0 && !s.armed {
		s.armed = true
		s.timer.Reset(s.keep)
	}
	s.mu.Unlock()
	<-t.wake
	if s.threads != nil {
		t.thread.Store(int64(s.threads.Begin()))
	}
	a.waits.Add(1)
	a.waited.Add(now() - began)
}

// grant gives free slots to the tasks that wait, in turn. The caller holds mu.
func (s *Scheduler) grant() {
	for n := range s.shared {
		if len(s.queue) == 0 {
			return
		}
		if s.slots[n].task.Load() == nil {
			s.next(n)
		}
	}
}

// next gives slot n, which was free, to the task whose turn it is. The caller holds mu, and
// there is such a task.
func (s *Scheduler) next(n int) {
	a := s.queue[0]
	for { // what an account has used since it was put into the queue counts
		a.settle()
		heap.Fix(&s.queue, 0)
		if s.queue[0] == a {
			break
		}
		a = s.queue[0]
	}
	t := a.first
	t.began.Store(now())
	if !s.slots[n].task.CompareAndSwap(nil, t) {
		return // taken by a task that has not seen that others wait
	}
	t.slot.Store(int32(n))
	s.virtual = max(s.virtual, a.virtual)
	if a.first = t.next; a.first == nil {
		a.last = nil
		heap.Pop(&s.queue)
	}
	t.next, t.queued = nil, false
	s.waiting.Add(-1)
	t.wake <- struct{}{}
}

// release gives the slots that have become free to those that wait.
func (s *Scheduler) release() {
	s.mu.Lock()
	s.grant()
	s.mu.Unlock()
}

// revoke frees the slots that were kept too long. The caller holds mu.
func (s *Scheduler) revoke(at int64) {
	for n := range s.slots {
		p := &s.slots[n].task
		if t := p.Load(); t != nil && at-t.began.Load() > int64(s.keep) && p.CompareAndSwap(t, nil) {
			t.account.used.Add(at - t.began.Load())
			t.began.Store(at)
			t.tellOver() // its thread may work for others by now
		}
	}
}

// look is the timer's: it frees slots that were kept too long while tasks wait.
func (s *Scheduler) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoke(now())
	s.grant()
	if s.armed = s.waiting.Load() > 0; s.armed {
		s.timer.Reset(s.keep)
	}
}

// accounts is a heap by virtual time.
type accounts []*Account

func (q accounts) Len() int           { return len(q) }
func (q accounts) Less(i, j int) bool { return q[i].virtual < q[j].virtual }
func (q accounts) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *accounts) Push(x any)        { *q = append(*q, x.(*Account)) }

func (q *accounts) Pop() any {
	last := len(*q) - 1
	a := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return a
}
