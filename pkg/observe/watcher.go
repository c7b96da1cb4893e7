package observe

import (
	"errors"
	"hash/maphash"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
)

// errUnknown: the bytes that would say more are not known.
var errUnknown = errors.New("not known")

// Limits bound what a Watcher keeps. What is over a limit is not read, and counted.
type Limits struct {
	Flows, PodFlows int // connections, of all pods and of one
	Bytes, PodBytes int // of heads, tables, requests under way and segments that wait
}

// DefaultLimits are those of an agent.
var DefaultLimits = Limits{Flows: 16384, PodFlows: 4096, Bytes: 32 << 20, PodBytes: 8 << 20}

// idle is how long a connection is remembered without a segment. The kernel says after half
// of that whose it is again.
const idle = 10 * time.Minute

// Watcher follows connections. It is not safe for concurrent use.
type Watcher struct {
	limits Limits
	emit   Sink
	flows  map[uint64]*flow
	pods   map[uint64]*usage
	bytes  int
	id     uint64
	counts Counts
	heads  [2]http1.Head // what was parsed last: of a request, of a response
	reuse
}

type usage struct{ flows, bytes int }

// New returns a Watcher whose events go to sink.
func New(limits Limits, sink Sink) *Watcher {
	return &Watcher{limits: limits, emit: sink, flows: make(map[uint64]*flow), pods: make(map[uint64]*usage), reuse: reuse{seed: maphash.MakeSeed()}}
}

// Open says whose a flow is. If changed is set, wish is what is needed of it from now on.
func (w *Watcher) Open(flow uint64, at time.Duration, o *Opening) (wish Wish, changed bool) {
	if f := w.flows[flow]; f != nil {
		f.last = at
		return Wish{}, false
	}
	u := w.pods[o.Pod]
	if u == nil {
		u = new(usage)
	}
	if len(w.flows) >= w.limits.Flows || u.flows >= w.limits.PodFlows {
		w.counts.Refused++
		return Wish{Off: true}, true
	}
	w.pods[o.Pod] = u
	u.flows++
	w.flows[flow] = newFlow(flow, at, o, u)
	return Wish{}, false
}

// Take reads one segment. If changed is set, wish is what is needed of its flow from now on.
func (w *Watcher) Take(s *Segment) (wish Wish, changed bool) {
	f := w.flows[s.Flow]
	switch {
	case f == nil && (s.Fin || s.Reset):
		return Wish{}, false
	case f == nil: // it was refused, or forgotten
		w.counts.Refused++
		return Wish{Off: true}, true
	}
	f.last = s.Time
	if f.wish.Off {
		return Wish{}, false // the kernel does not know it yet
	}
	f.changed = false
	w.take(f, s)
	w.charge(f)
	wish, changed = f.wish, f.changed
	if f.done {
		w.forget(f)
	}
	return wish, changed
}

// off says that nothing more of a flow is needed.
func (w *Watcher) off(f *flow) {
	w.counts.Opaque++
	w.stop(f)
}

// stop gives a flow up.
func (w *Watcher) stop(f *flow) {
	w.counts.Dropped += uint64(len(f.calls))
	if f.h2 != nil {
		w.counts.Dropped += uint64(len(f.h2.calls))
	}
	f.wish.Off, f.changed = true, true
	f.calls, f.sides, f.h2 = nil, [2]stream{}, nil
}

// room reports whether n more bytes may be kept for the flow.
func (w *Watcher) room(f *flow, n int) bool {
	return w.bytes+n <= w.limits.Bytes && f.usage.bytes+n <= w.limits.PodBytes
}

// charge counts what the flow keeps.
func (w *Watcher) charge(f *flow) {
	n := f.size()
	w.bytes += n - f.kept
	f.usage.bytes += n - f.kept
	f.kept = n
}

func (w *Watcher) forget(f *flow) {
	delete(w.flows, f.id)
	w.bytes -= f.kept
	f.usage.bytes -= f.kept
	if f.usage.flows--; f.usage.flows == 0 {
		delete(w.pods, f.Pod)
	}
}

// Leave forgets the flows of a pod.
func (w *Watcher) Leave(pod uint64) {
	for _, f := range w.flows {
		if f.Pod == pod {
			w.forget(f)
		}
	}
}

// Sweep forgets flows of which nothing was heard for long. Call it once in a while.
func (w *Watcher) Sweep(now time.Duration) {
	for _, f := range w.flows {
		if now-f.last > idle || f.wish.Off && now-f.last > time.Minute {
			w.counts.Dropped += uint64(len(f.calls))
			if f.h2 != nil {
				w.counts.Dropped += uint64(len(f.h2.calls))
			}
			w.forget(f)
		}
	}
}

// Counts returns what was not read, and what is kept.
func (w *Watcher) Counts() Counts {
	c := w.counts
	c.Flows, c.Bytes = len(w.flows), w.bytes
	return c
}
