package agent

import (
	"os"
	"runtime"
	"sync"
)

// processors returns the number of processors that the agent may use: those of the node, or
// of its cgroup's quota.
//
// It gives Go more than these to schedule on. While all of Go's processors are busy, sockets
// are looked at every 10 ms only. A flood would make them all busy: the turns of pods
// (pkg/fairshare) may take all but one processor, and handshakes half of them (pkg/mtls,
// Gate). So there is one of Go's for each of these and for each spare turn, and one to look
// at the sockets with. Which thread runs is then the kernel's choice, which shares in slices
// of 0.1 ms (pkg/agent/timeslice). A GOMAXPROCS in the environment stays as it is.
var processors = sync.OnceValue(func() int {
	n := runtime.GOMAXPROCS(0)
	if os.Getenv("GOMAXPROCS") == "" {
		turns, handshakes := max(n-1, 1), (n+1)/2
		runtime.GOMAXPROCS(max(turns+handshakes, n) + 2)
	}
	return n
})
