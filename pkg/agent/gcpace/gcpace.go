// Package gcpace has the garbage collector run less often while pods contend for the agent, or while
// it would run several times a second.
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

// Busy is the room while the agent has so much to do that it would collect busyCollections times a
// second or more. At 90,000 gRPC calls a second a GOGC of 400 made a call a fifth cheaper and took
// 1.6 times the memory; this room gives most of that, for 1.3 times.
const (
	Busy            = 24 << 20
	busyCollections = 3
)

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

	collected []metrics.Sample
	cycles    uint64 // at the last Look
	busy      bool
}

// New makes a Pace with so much room in bytes. It does nothing if GOGC is in the environment.
func New(room int) *Pace {
	_, set := os.LookupEnv("GOGC")
	p := &Pace{room: room, off: set, percent: usual, samples: []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
	}, collected: []metrics.Sample{{Name: "/gc/cycles/automatic:gc-cycles"}}}
	p.newCycles()
	return p
}

// newCycles returns how many collections there were since the last call.
func (p *Pace) newCycles() (n uint64) {
	metrics.Read(p.collected)
	if v := p.collected[0].Value; v.Kind() == metrics.KindUint64 {
		n, p.cycles = v.Uint64()-p.cycles, v.Uint64()
	}
	return n
}

// Look is called once a second. It looks whether the agent is busy, and is Set then.
func (p *Pace) Look(contended bool) {
	p.busy = p.newCycles()*uint64(p.percent) >= busyCollections*usual
	p.Set(contended)
}

// Set is called when contention begins and ends, and by Look, because the heap changes. A call
// that changes GOGC stops the process for a moment, and waits for the end of a collection that
// runs. The limit of GOMEMLIMIT goes before it.
func (p *Pace) Set(contended bool) {
	percent, room := usual, p.room
	if !contended {
		room = min(room, Busy)
	}
	if contended || p.busy {
		metrics.Read(p.samples)
		size := uint64(0)
		for _, s := range p.samples {
			if s.Value.Kind() == metrics.KindUint64 {
				size += s.Value.Uint64()
			}
		}
		percent = percentFor(size, room)
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
