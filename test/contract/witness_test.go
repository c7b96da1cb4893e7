package contract

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/contract/history"
)

// The witness computes for a moment every half a second, and tells how much longer that
// took than the processor time it used: about one more than the number of other threads
// that want the same processor.
const (
	witnessEvery = 500 * time.Millisecond
	witnessWork  = 10 * time.Millisecond // of processor time
)

// startWitness measures the machine until stop, which returns what it measured.
func startWitness(t *testing.T) (stop func() []history.Load) {
	t.Helper()
	end, loads := make(chan struct{}), make(chan []history.Load, 1)
	go func() {
		runtime.LockOSThread() // it reads its own processor time
		defer runtime.UnlockOSThread()
		var out []history.Load
		tick := time.NewTicker(witnessEvery)
		defer tick.Stop()
		for {
			select {
			case <-t.Context().Done():
				return
			case <-end:
				loads <- out
				return
			case <-tick.C:
			}
			began, used := time.Now(), threadTime()
			for threadTime()-used < witnessWork {
			}
			took, worked := time.Since(began), threadTime()-used
			out = append(out, history.Load{At: began, Factor: float64(took) / float64(worked)})
		}
	}()
	return func() []history.Load {
		close(end)
		return <-loads
	}
}

// threadTime is the processor time that the calling thread has used.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err) // the clock is as old as Linux 2.6.12
	}
	return time.Duration(ts.Nano())
}
