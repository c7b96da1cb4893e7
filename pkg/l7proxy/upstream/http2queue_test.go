package upstream

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
)

// none is a request that does nothing.
type none struct {
	Stream
	_ int // requests differ
}

// TestLeavingALongQueue: what a request costs that leaves the queue of an endpoint, or that
// is refused because the queue is full, does not depend on the queue's length. All
// requests of the proxy wait for the lock that is held meanwhile.
func TestLeavingALongQueue(t *testing.T) {
	// each is the shortest processor time that one of n requests takes, of a few tries. Time on
	// the clock would depend on what else the machine does: the long queue's is longer than a
	// turn on the processor.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	processor := func() time.Duration {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
			t.Fatal(err)
		}
		return time.Duration(now.Nano())
	}
	each := func(n int) time.Duration {
		best := time.Hour
		for range 5 {
			pool, ep := new(Pool), new(Endpoint)
			for range http2ConnsPerKey {
				pool.http2.begin(ep.Key, struct{}{})
			}
			streams := make([]none, n+1)
			var b h2conn.Batch
			for i := range n {
				if !pool.http2.wait(&waiter{stream: &streams[i], ep: *ep}, &b) {
					t.Fatalf("request %d was refused, want %d to wait", i, n)
				}
			}
			began := processor()
			for i := range n {
				pool.ForgetHTTP2(ep, &streams[n])
				pool.ForgetHTTP2(ep, &streams[n-1-i])
			}
			best = min(best, (processor()-began)/time.Duration(n))
			if waiting := pool.http2.waiting.Load(); waiting != 0 || len(pool.http2.queues) != 0 {
				t.Errorf("%d requests wait in %d queues after all have left, want none", waiting, len(pool.http2.queues))
			}
		}
		return best
	}
	short, long := each(70), each(7000)
	if long > 10*short {
		t.Errorf("a request takes %v to leave a queue of 7000, and %v one of 70; want no more than ten times that", long, short)
	}
}
