package agent

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/agent/gcpace"
	"github.com/underlane/underlane/pkg/agent/timeslice"
	"github.com/underlane/underlane/pkg/fairshare"
)

// processors has the scheduler that shares the processors between pods: those of the node, or
// of the quota of the agent's cgroup. It asks Go and the kernel for more where pods contend.
//
// While all of Go's processors are busy it looks at sockets every 10 ms only, and takes 128
// of those that are ready. Turns leave one processor free for that, but it is used by what
// has no turns: handshakes (pkg/mtls, Gate), the garbage collector, and goroutines that only
// begin to wait for a turn. In a flood of new connections that is enough to keep the bytes
// of a quiet pod waiting for some hundred milliseconds in the kernel's list. So while there
// is a crowd Go has more processors than there are: one for each turn, handshake and spare
// turn, and one to look at the sockets with. At other times this would cost more than it
// gives: idle processors look for work, and a quarter more processor time was used. A
// GOMAXPROCS in the environment stays as it is.
//
// While several pods want the processors, the kernel chooses between the agent's threads and
// others in short slices (pkg/agent/timeslice). They cost some 2 % of a gRPC call,
// so they are for contention only. A thread that works in a turn that was waited for has a long
// one, so that it does not keep those waiting who had no need to, and a thread on each processor
// makes the kernel look at slices more often than it does by itself. The garbage collector is given
// memory then so that it runs less often, and some whenever it would run several times a second
// (pkg/agent/gcpace).
type processors struct {
	shares  *fairshare.Scheduler
	threads timeslice.Threads
	pulse   *timeslice.Pulse
	pace    *gcpace.Pace
	log     *slog.Logger

	contended atomic.Bool
	changed   chan struct{} // capacity 1
}

// paceMemory is the part of the memory that the garbage collector may be given in addition.
const paceMemory = 16

// newProcessors makes them for an agent that may have so many bytes of memory.
func newProcessors(log *slog.Logger, memory int) *processors {
	n := runtime.GOMAXPROCS(0)
	shares := fairshare.New(n)
	p := &processors{shares: shares, pulse: timeslice.NewPulse(log), pace: gcpace.New(min(gcpace.Room, memory/paceMemory)), log: log, changed: make(chan struct{}, 1)}
	shares.Tell(&p.threads)
	shares.OnContention(func(contended bool) {
		p.contended.Store(contended)
		select {
		case p.changed <- struct{}{}:
		default:
		}
	})
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
	return p
}

// paceLook is how often the garbage collector's pace is looked at.
const paceLook = time.Second

// run sets the time slices of the agent's threads, and the pace of its garbage collector, until
// ctx is done.
func (p *processors) run(ctx context.Context) error {
	look := time.NewTicker(paceLook)
	defer look.Stop()
	slices := true
	defer p.pulse.Close()
	for {
		select {
		case <-p.changed:
		case <-look.C:
			p.pace.Look(p.contended.Load())
			continue
		case <-ctx.Done():
			return nil
		}
		contended := p.contended.Load()
		if slices {
			if err := p.threads.Set(contended); err != nil {
				p.log.Warn("under load the agent gets the processors later than it could", "cause", err)
				slices = false
			}
		}
		p.pulse.Set(contended && slices)
		p.pace.Set(contended)
	}
}
