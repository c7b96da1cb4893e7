package observe

import (
	"errors"
	"time"
)

// errUnknown: the bytes that would say more are not known.
var errUnknown = errors.New("not known")

// Limits bound what a Watcher keeps. What is over a limit is not read, and counted.
type Limits struct {
	Flows, PodFlows int // connections, of all pods and of one
	Bytes, PodBytes int // of heads and segments that wait
}

// DefaultLimits are those of an agent.
var DefaultLimits = Limits{Flows: 16384, PodFlows: 4096, Bytes: 16 << 20, PodBytes: 4 << 20}

// idle is how long a connection is remembered without a segment.
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
}

type usage struct{ flows, bytes int }

// New returns a Watcher whose events go to sink.
func New(limits Limits, sink Sink) *Watcher {
	return &Watcher{limits: limits, emit: sink, flows: make(map[uint64]*flow), pods: make(map[uint64]*usage)}
}

// Take reads one segment. If changed is set, wish is what is needed of its flow from now on.
func (w *Watcher) Take(s *Segment) (wish Wish, changed bool) {
	f := w.flows[s.Flow]
	if f == nil {
		if s.Fin || s.Reset {
			return Wish{}, false
		}
		if f = w.open(s); f == nil {
			w.counts.Refused++
			return Wish{Off: true}, true
		}
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

func (w *Watcher) open(s *Segment) *flow {
	u := w.pods[s.Pod]
	if u == nil {
		u = new(usage)
	}
	if len(w.flows) >= w.limits.Flows || u.flows >= w.limits.PodFlows {
		return nil
	}
	w.pods[s.Pod] = u
	u.flows++
	f := &flow{Segment: *s}
	f.Data, f.Tail = nil, nil
	w.flows[s.Flow] = f
	if s.Seq != s.First {
		// Joined midway: both streams begin where a message does.
		f.midway = true
	}
	return f
}

// off says that nothing more of a flow is needed.
func (w *Watcher) off(f *flow) {
	w.counts.Opaque++
	w.counts.Dropped += uint64(len(f.calls))
	f.wish.Off, f.changed = true, true
	f.calls, f.sides = nil, [2]stream{}
}

// room reports whether n more bytes may be kept for the flow.
func (w *Watcher) room(f *flow, n int) bool {
	u := w.pods[f.Pod]
	return w.bytes+n <= w.limits.Bytes && u.bytes+n <= w.limits.PodBytes
}

// charge counts what the flow keeps.
func (w *Watcher) charge(f *flow) {
	n := f.sides[0].size() + f.sides[1].size()
	w.bytes += n - f.kept
	w.pods[f.Pod].bytes += n - f.kept
	f.kept = n
}

func (w *Watcher) forget(f *flow) {
	delete(w.flows, f.Flow)
	u := w.pods[f.Pod]
	w.bytes -= f.kept
	u.bytes -= f.kept
	if u.flows--; u.flows == 0 {
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
