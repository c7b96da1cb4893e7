package agent

import (
	"os"
	"runtime"

	"github.com/underlane/underlane/pkg/fairshare"
)

// newShares makes the scheduler that shares the processors between pods: those of the node,
// or of the quota of the agent's cgroup.
//
// While all of Go's processors are busy it looks at sockets every 10 ms only, and takes 128
// of those that are ready. Turns leave one processor free for that, but it is used by what
// has no turns: handshakes (pkg/mtls, Gate), the garbage collector, and goroutines that only
// begin to wait for a turn. In a flood of new connections that is enough to keep the bytes
// of a quiet pod waiting for some hundred milliseconds in the kernel's list. So while there
// is a crowd Go has more processors than there are: one for each turn, handshake and spare
// turn, and one to look at the sockets with. The kernel chooses between their threads in
// slices of 0.3 ms (pkg/agent/timeslice). At other times this would cost more than it gives:
// idle processors look for work, and a quarter more processor time was used. A GOMAXPROCS in
// the environment stays as it is.
func newShares() *fairshare.Scheduler {
	n := runtime.GOMAXPROCS(0)
	shares := fairshare.New(n)
	if os.Getenv("GOMAXPROCS") == "" {
		turns, handshakes := max(n-1, 1), (n+1)/2
		many := max(turns+handshakes, n) + 2
		shares.OnCrowd(func(crowd bool) {
			if crowd {
				runtime.GOMAXPROCS(many)
			} else {
				runtime.GOMAXPROCS(n)
			}
		})
	}
	return shares
}
