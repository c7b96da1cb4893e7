package observe

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
)

// patience is how long segments wait for an earlier one.
const patience = 20 * time.Millisecond

const (
	maxCalls  = 32       // requests of a connection that wait for their responses
	skipLeast = 64 << 10 // rest of a body that is worth a wish
	skipMost  = 1 << 30  // that one wish skips: sequence numbers have 32 bits
)

// flow is a connection.
type flow struct {
	*Opening // is not changed: events have it
	id       uint64
	usage    *usage    // of its pod
	sides    [2]stream // requests, responses
	calls    []*call   // of HTTP/1
	h2       *http2    // nil: it is not HTTP/2, as far as is known
	wish     Wish
	changed  bool // wish was
	kept     int  // bytes, as they were charged last
	last     time.Duration
	done     bool
	sure     bool // Server is right
	swap     bool // Server is wrong
}

type call struct {
	Request
	kind     http1.Kind
	answered bool
	doubtful bool // its response may have been missed
	guessed  bool // HTTP/2: a field of the request is not known, so that it may be one of gRPC
}

// callSize is what a call keeps besides its strings, in bytes.
const callSize = 256

func (c *call) size() int { return callSize + len(c.Method) + len(c.Authority) + len(c.Path) }

const (
	requests = iota
	responses
)

func newFlow(id uint64, at time.Duration, o *Opening, u *usage) *flow {
	own := *o
	f := &flow{Opening: &own, id: id, usage: u, last: at, sure: !o.Joined}
	for side := range f.sides {
		st := &f.sides[side]
		if st.next = o.First[f.index(side)]; o.Joined {
			st.seen, st.state, st.begun = false, lost, true
		} else {
			st.seen = true
		}
	}
	return f
}

// index is 0 if the pod receives the side, and 1 if it sends it.
func (f *flow) index(side int) int {
	if (side == requests) != f.Server {
		return 1
	}
	return 0
}

// size is what the flow keeps, in bytes.
func (f *flow) size() int {
	n := f.sides[0].size() + f.sides[1].size()
	for _, c := range f.calls {
		n += c.size()
	}
	if f.h2 != nil {
		n += f.h2.size()
	}
	return n
}

// take reads one segment.
func (w *Watcher) take(f *flow, s *Segment) {
	side := responses
	if s.Sent != f.Server {
		side = requests
	}
	st := &f.sides[side]
	if !st.seen {
		st.seen, st.next = true, s.Seq
	}
	for i := range f.sides {
		if p := f.sides[i].pending; len(p) > 0 && s.Time-p[0].at > patience {
			w.flush(f, i)
		}
	}
	g := segment{seq: s.Seq, length: s.Length, skipped: s.Skipped, data: s.Data, tail: s.Tail, at: s.Time}
	if g.length > 0 {
		w.arrive(f, side, g)
	}
	if f.wish.Off {
		return
	}
	if s.Unwalked && f.h2 != nil {
		f.h2.walk(w, f, side)
	}
	switch {
	case s.Reset:
		w.finish(f, s.Time, true)
	case s.Fin:
		w.flush(f, side)
		if side == responses {
			w.finish(f, cmp.Or(st.last, s.Time), false)
		}
	}
	if f.swap {
		f.turn()
	}
}

// turn corrects who the server is.
func (f *flow) turn() {
	f.sides[0], f.sides[1] = f.sides[1], f.sides[0]
	if f.h2 != nil {
		f.h2.sides[0], f.h2.sides[1] = f.h2.sides[1], f.h2.sides[0]
	}
	o := *f.Opening
	o.Server = !o.Server
	f.Opening, f.swap, f.sure = &o, false, true
}

// arrive brings a segment into its place.
func (w *Watcher) arrive(f *flow, side int, g segment) {
	st := &f.sides[side]
	ahead := int32(g.seq - st.next)
	switch {
	case ahead < 0 && uint32(-ahead) >= g.length:
		return // it was sent again
	case ahead < 0:
		g.cut(uint32(-ahead))
	case ahead > 0 && !f.passes(side, uint32(ahead)):
		if len(st.pending) < maxPending && w.room(f, len(g.data)) {
			g.data, g.tail = bytes.Clone(g.data), bytes.Clone(g.tail)
			at, _ := slices.BinarySearchFunc(st.pending, g.seq, func(p segment, seq uint32) int { return int(int32(p.seq - seq)) })
			st.pending = slices.Insert(st.pending, at, g)
			return
		}
		w.flush(f, side)
		if ahead = int32(g.seq - st.next); ahead < 0 {
			return
		}
		if ahead > 0 {
			w.gap(f, side, uint32(ahead))
		}
	case ahead > 0:
		w.gap(f, side, uint32(ahead))
	}
	w.read(f, side, g)
	for len(st.pending) > 0 && int32(st.pending[0].seq-st.next) <= 0 {
		p := st.pending[0]
		st.pending = slices.Delete(st.pending, 0, 1)
		if old := st.next - p.seq; old < p.length {
			p.cut(old)
			w.read(f, side, p)
		}
	}
}

// flush reads what waits, and gives up what it waits for.
func (w *Watcher) flush(f *flow, side int) {
	st := &f.sides[side]
	pending := st.pending
	st.pending = nil
	for _, p := range pending {
		switch ahead := int32(p.seq - st.next); {
		case ahead > 0:
			w.gap(f, side, uint32(ahead))
		case uint32(-ahead) >= p.length:
			continue
		default:
			p.cut(uint32(-ahead))
		}
		w.read(f, side, p)
	}
}

// passes reports whether n bytes may be missed without harm: they are of a body.
func (f *flow) passes(side int, n uint32) bool {
	if f.h2 != nil {
		return f.h2.sides[side].passes(n)
	}
	return f.sides[side].passes(n)
}

// gap goes on after n bytes that are missed.
func (w *Watcher) gap(f *flow, side int, n uint32) {
	st := &f.sides[side]
	st.next += n
	if f.h2 != nil {
		f.h2.miss(w, f, side, n, cmp.Or(st.last, f.last))
		return
	}
	f.gapText(w, side, n)
}

// read reads the segment that comes next.
func (w *Watcher) read(f *flow, side int, g segment) {
	st := &f.sides[side]
	st.next = g.seq + g.length
	st.last = g.at
	if f.h2 == nil {
		if f.readText(w, side, &g); f.h2 == nil || g.length == 0 || f.wish.Off {
			return
		}
	}
	f.h2.readFrames(w, f, side, &g)
}

// finish ends all requests: the server sends no more.
func (w *Watcher) finish(f *flow, at time.Duration, reset bool) {
	if f.h2 != nil {
		f.h2.finishStreams(w, f, f.last)
	}
	f.finishText(w, at, reset)
	f.done = true
}
