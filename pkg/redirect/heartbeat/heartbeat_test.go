package heartbeat

import (
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func start(t *testing.T, limit time.Duration) *Thread {
	t.Helper()
	// No map: what is looked at is when the thread beats.
	beats := Start(Config{Map: -1, Value: make([]byte, 8), Interval: 20 * time.Millisecond, Limit: limit, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(beats.Stop)
	return beats
}

// spin keeps all processors busy with many goroutines for a while.
func spin(goroutines int, d time.Duration) {
	end := time.Now().Add(d)
	var all sync.WaitGroup
	for i := range goroutines {
		all.Go(func() {
			if i == 0 {
				runtime.GC()
			}
			for time.Now().Before(end) {
			}
		})
	}
	all.Wait()
}

// A busy process is no hung one: with some hundred goroutines that have work the
// thread beats on, where a goroutine that makes a system call waits for its turn
// among all of them.
func TestLoadDoesNotStarve(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	beats := start(t, time.Minute)
	var longest atomic.Int64
	go func() { // how it would be in a goroutine
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for last := time.Now(); ; {
			<-tick.C
			_, _, _ = unix.Syscall(unix.SYS_BPF, mapUpdateElem, 0, 0)
			if gap := int64(time.Since(last)); gap > longest.Load() {
				longest.Store(gap)
			}
			last = time.Now()
			if t.Context().Err() != nil {
				return
			}
		}
	}()
	time.Sleep(50 * time.Millisecond)
	spin(300, 3*time.Second)
	t.Logf("longest time between two beats: %v; of a goroutine: %v", beats.Gap(), time.Duration(longest.Load()))
	if gap := beats.Gap(); gap == 0 || gap > 1500*time.Millisecond { // the agent's timeout is 2 s
		t.Errorf("%v passed between two beats", gap)
	}
}

// The thread vouches for the goroutines only as long as they run.
func TestNoSignNoBeat(t *testing.T) {
	l := start(t, time.Minute).loop
	last := func() int64 { return atomic.LoadInt64(&l.beat) }
	moves := func() bool {
		began := last()
		for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); time.Sleep(time.Millisecond) {
			if last() != began {
				return true
			}
		}
		return false
	}
	if !moves() {
		t.Fatal("no beat")
	}
	atomic.StoreInt64(&l.limit, 0)
	still := false
	for range 50 { // one may have been about to be
		before := last()
		time.Sleep(200 * time.Millisecond)
		if still = last() == before; still {
			break
		}
	}
	if !still {
		t.Error("beats without a sign of the goroutines")
	}
	atomic.StoreInt64(&l.limit, int64(time.Minute))
	if !moves() {
		t.Error("no beat after the goroutines are back")
	}
}

// Stop ends the thread, and with it its priority.
func TestStop(t *testing.T) {
	threads := func() int {
		list, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	beats := start(t, time.Minute)
	beats.Stop()
	before := threads()
	for range 20 {
		start(t, time.Minute).Stop()
	}
	after := threads()
	for limit := time.Now().Add(10 * time.Second); after > before+5 && time.Now().Before(limit); after = threads() {
		time.Sleep(10 * time.Millisecond) // a thread ends a moment after its goroutine
	}
	if after > before+5 {
		t.Errorf("%d threads before, %d after 20 heartbeats", before, after)
	}
	beats.Stop()
}
