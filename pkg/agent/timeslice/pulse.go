package timeslice

import (
	"errors"
	"log/slog"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// period is how often a Pulse wakes up: four times for a tick of most kernels.
	period = time.Millisecond
	// pulseSlice is the slice of a Pulse's threads: the shortest that there is, so that none of
	// the agent's keeps them waiting. Set knows them by it.
	pulseSlice = 100 * time.Microsecond
	// mostPulses is the number of processors of a machine on which there is a Pulse at most. On
	// a larger one a thread that wakes up mostly finds an idle processor, and a Pulse costs more.
	mostPulses = 4
)

// Pulse makes the kernel look more often at who should have a processor, while it is on.
//
// The kernel ends a slice only when its timer ticks, or when a thread wakes up on the
// processor that may go before the one that runs (EEVDF, RUN_TO_PARITY). With 250 ticks a second,
// as many distributions have them, a thread of the agent that wakes up just after another one's
// slice has begun waits for up to 4 ms, though both have slices of 0.3 ms. A Pulse has a thread
// on each processor that only wakes up and sleeps again: the kernel then chooses anew. That costs
// some 2 % of each processor while it is on.
type Pulse struct {
	log   *slog.Logger
	cpus  []int
	beats []*beat // one for each of cpus, once it was on
}

// beat is the memory that a thread of a Pulse uses.
type beat struct {
	state  uint32 // a futex
	period unix.Timespec
	count  uint64
}

// States of a beat.
const (
	resting = iota
	beating
	ended
)

// NewPulse makes a Pulse. It does nothing where the kernel ticks as often or ignores slices, where
// there are many processors, or where the agent has a quota that is less than all of them.
func NewPulse(log *slog.Logger) *Pulse {
	p := &Pulse{log: log}
	var tick unix.Timespec
	if unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &tick) != nil || time.Duration(tick.Nano()) < 2*period {
		return p
	}
	if attr, err := unix.SchedGetAttr(0, 0); err != nil || attr.Runtime == 0 {
		return p
	}
	var may unix.CPUSet
	if unix.SchedGetaffinity(0, &may) != nil || may.Count() > min(mostPulses, runtime.GOMAXPROCS(0)) {
		return p
	}
	for n := 0; len(p.cpus) < may.Count(); n++ {
		if may.IsSet(n) {
			p.cpus = append(p.cpus, n)
		}
	}
	return p
}

// Set turns it on or off. One goroutine at a time may call it.
func (p *Pulse) Set(on bool) {
	if p.beats == nil && on {
		for _, cpu := range p.cpus {
			b := &beat{period: unix.NsecToTimespec(int64(period))}
			p.beats = append(p.beats, b)
			go p.start(b, cpu)
		}
	}
	state := uint32(resting)
	if on {
		state = beating
	}
	p.tell(state)
}

// Close ends the threads. Set must not be called afterwards.
func (p *Pulse) Close() { p.tell(ended) }

func (p *Pulse) tell(state uint32) {
	for _, b := range p.beats {
		if atomic.SwapUint32(&b.state, state) != state {
			_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&b.state)), futexWake, 1, 0, 0, 0)
		}
	}
}

// start is a thread of a Pulse.
func (p *Pulse) start(b *beat, cpu int) {
	runtime.LockOSThread() // never unlocked: no other goroutine may get the thread
	var own, all unix.CPUSet
	own.Set(cpu)
	err := unix.SchedGetaffinity(0, &all)
	if err == nil {
		err = unix.SchedSetaffinity(0, &own)
	}
	if err = errors.Join(err, set(0, pulseSlice), unix.Setpriority(unix.PRIO_PROCESS, 0, -20)); err != nil {
		p.log.Debug("a pulse may come late", "processor", cpu, "cause", err)
	}
	b.run()
	// A thread that ends may start another one, which inherits what it has.
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 0)
	_ = reset()
	_ = unix.SchedSetaffinity(0, &all)
}

const (
	futexPrivate = 128
	futexWait    = 0 | futexPrivate
	futexWake    = 1 | futexPrivate
)

// run wakes up in each period while the state is beating. The Go scheduler does not control it:
// runtime.go says what it must not do.
//
//go:nosplit
//go:norace
func (b *beat) run() {
	entersyscall()
	for {
		state := atomic.LoadUint32(&b.state)
		if state == ended {
			break
		}
		timeout := uintptr(0) // none
		if state == beating {
			timeout = uintptr(unsafe.Pointer(&b.period))
			atomic.AddUint64(&b.count, 1)
		}
		// Returns at once if the state has changed already.
		syscall.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&b.state)), futexWait, uintptr(state), timeout, 0, 0)
	}
	exitsyscall()
}
