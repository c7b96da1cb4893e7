// Package heartbeat writes into an eBPF map that this process is alive. It does so
// from a thread of its own, which neither the load of other goroutines nor a garbage
// collection delays.
//
// A goroutine cannot do this, because it runs only when the scheduler runs it. With a
// few thousand goroutines that have work, it waits for seconds after each system call,
// even if it is locked to a thread, and a process that is only busy would count as
// hung. The heartbeat's thread stays inside one long "system call", as C code would. It
// stops when the process stops (SIGSTOP, a freezer, a processor limit that is used up).
//
// A live thread does not mean that the process does its work. So a goroutine gives the
// thread a sign at intervals. Without a sign for Limit the thread stops the heartbeat.
package heartbeat

import (
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Config of a heartbeat.
type Config struct {
	Map      int    // descriptor of an array map: entry 0 is written
	Value    []byte // of the entry; its first 8 bytes are set to the time of each beat (CLOCK_MONOTONIC, ns)
	Interval time.Duration
	Limit    time.Duration // without a sign of the other goroutines for this time, the heartbeat stops
	Log      *slog.Logger
}

// Thread writes the heartbeat until Stop.
type Thread struct {
	loop *loop
	log  *slog.Logger
	stop chan struct{}
	once sync.Once
	ends sync.WaitGroup
}

// loop is all memory that the thread uses. It is on the heap, which does not move.
type loop struct {
	stop     uint32 // a futex
	key      uint32
	interval unix.Timespec
	now      unix.Timespec
	value    []byte
	time     *int64   // the first 8 bytes of value
	update   struct { // union bpf_attr, as BPF_MAP_UPDATE_ELEM has it
		fd, _             uint32
		key, value, flags uint64
	}
	limit int64
	sign  int64 // when another goroutine last ran
	beat  int64 // time of the last beat
	gap   int64 // longest time between two beats
	errno uintptr
}

// Start starts a thread that writes a heartbeat at once, and then one in every interval.
func Start(c Config) *Thread {
	l := &loop{
		interval: unix.NsecToTimespec(int64(c.Interval)), limit: int64(c.Limit),
		value: append([]byte(nil), c.Value...), sign: now(),
	}
	l.time = (*int64)(unsafe.Pointer(&l.value[0]))
	l.update.fd = uint32(c.Map)
	l.update.key = uint64(uintptr(unsafe.Pointer(&l.key)))
	l.update.value = uint64(uintptr(unsafe.Pointer(&l.value[0])))
	t := &Thread{loop: l, log: c.Log, stop: make(chan struct{})}
	t.ends.Go(func() {
		runtime.LockOSThread() // never unlocked, so that no other goroutine gets the thread's priority
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, -20); err != nil {
			t.log.Debug("the heartbeat has no higher priority than other threads", "cause", err)
		}
		l.run()
	})
	t.ends.Go(func() { t.sign(c.Interval) })
	return t
}

// Stop ends the heartbeat and waits until the thread has ended.
func (t *Thread) Stop() {
	t.once.Do(func() {
		close(t.stop)
		atomic.StoreUint32(&t.loop.stop, 1)
		_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&t.loop.stop)), futexWake, 1, 0, 0, 0)
	})
	t.ends.Wait()
}

// Gap is the longest time between two beats so far.
func (t *Thread) Gap() time.Duration { return time.Duration(atomic.LoadInt64(&t.loop.gap)) }

// sign gives the thread a sign in every interval, from an ordinary goroutine.
func (t *Thread) sign(interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var failing uintptr
	for {
		atomic.StoreInt64(&t.loop.sign, now())
		if errno := atomic.LoadUintptr(&t.loop.errno); errno != failing {
			failing = errno
			if errno != 0 {
				t.log.Error("heartbeat: update of the map", "err", syscall.Errno(errno))
			}
		}
		select {
		case <-t.stop:
			return
		case <-tick.C:
		}
	}
}

const (
	futexPrivate  = 128
	futexWait     = 0 | futexPrivate
	futexWake     = 1 | futexPrivate
	mapUpdateElem = 2
)

// run writes heartbeats until stop is set. The Go scheduler does not control it:
// runtime.go says what it must not do. The race detector does not see it either.
//
//go:nosplit
//go:norace
func (l *loop) run() {
	entersyscall()
	for l.stop == 0 {
		syscall.RawSyscall6(unix.SYS_CLOCK_GETTIME, unix.CLOCK_MONOTONIC, uintptr(unsafe.Pointer(&l.now)), 0, 0, 0, 0)
		now := l.now.Sec*1e9 + l.now.Nsec
		if now-l.sign < l.limit {
			*l.time = now
			_, _, errno := syscall.RawSyscall6(unix.SYS_BPF, mapUpdateElem, uintptr(unsafe.Pointer(&l.update)), unsafe.Sizeof(l.update), 0, 0, 0)
			l.errno = uintptr(errno)
			if l.beat != 0 && now-l.beat > l.gap {
				l.gap = now - l.beat
			}
			l.beat = now
		}
		// Returns at once if stop is set already.
		syscall.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&l.stop)), futexWait, 0, uintptr(unsafe.Pointer(&l.interval)), 0, 0)
	}
	exitsyscall()
}

func now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return ts.Nano()
}
