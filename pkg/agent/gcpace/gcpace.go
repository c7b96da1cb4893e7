// Package gcpace has the garbage collector run less often while pods contend for the agent.
package gcpace

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
)

// Room is how many bytes the agent may allocate between two collections while pods contend,
// or up to half of it. The live heap of an agent that has little to do is some 5 MB, and Go
// collects when it has doubled. A flood of handshakes, of 70 KB of garbage each, is then ten
// and more collections a second, each of which stops the goroutines of all pods twice, and
// takes a quarter of the processors and those that are idle for some 10 ms.
const Room = 64 << 20

const (
	// usual is the GOGC that Go begins with: a collection when the heap has doubled.
	usual = 100
	most  = 1600
)

// Pace sets the GOGC of the process. It must be used by one goroutine at a time.
type Pace struct {
	room    int
	off     bool // GOGC is in the environment
	percent int
	samples []metrics.Sample
}

// New makes a Pace with so much room in bytes. It does nothing if GOGC is in the environment.
func New(room int) *Pace {
	_, set := os.LookupEnv("GOGC")
	return &Pace{room: room, off: set, percent: usual, samples: []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
	}}
}

// Set is called when contention begins and ends, and now and then while it lasts, because
// the heap changes. A call that changes GOGC stops the process for a moment, and waits for the
// end of a collection that runs. The limit of GOMEMLIMIT goes before it.
func (p *Pace) Set(contended bool) {
	percent := usual
	if contended {
		metrics.Read(p.samples)
		size := uint64(0)
		for _, s := range p.samples {
			if s.Value.Kind() == metrics.KindUint64 {
				size += s.Value.Uint64()
			}
		}
		percent = percentFor(size, p.room)
	}
	if percent != p.percent && !p.off {
		p.percent = percent
		debug.SetGCPercent(percent)
	}
}

// percentFor returns the GOGC that leaves room for a heap, with stacks and globals, of size
// bytes: the largest one of 100, 200, 400, ... whose room is not above that. So it seldom
// changes.
func percentFor(size uint64, room int) int {
	percent := usual
	for percent < most && 2*uint64(percent)*size <= 100*uint64(room) {
		percent *= 2
	}
	return percent
}
