package observe

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
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
	Segment           // of the first one: whose it is
	midway  bool      // its beginning was missed
	sides   [2]stream // requests, responses
	calls   []*call
	wish    Wish
	changed bool // wish was
	kept    int  // bytes, as they were charged last
	last    time.Duration
	done    bool
}

type call struct {
	Request
	kind     http1.Kind
	answered bool
	doubtful bool // its response may have been missed
}

const (
	requests = iota
	responses
)

// take reads one segment.
func (w *Watcher) take(f *flow, s *Segment) {
	side := responses
	if s.Sent != s.Server {
		side = requests
	}
	st := &f.sides[side]
	if !st.seen {
		st.seen, st.next = true, s.First
		if f.midway {
			st.next, st.state, st.begun = s.Seq, lost, true
		}
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
	switch {
	case s.Reset:
		w.finish(f, s.Time, true)
	case s.Fin:
		w.flush(f, side)
		if side == responses {
			w.finish(f, cmp.Or(st.last, s.Time), false)
		}
	}
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
	case ahead > 0 && !st.passes(uint32(ahead)):
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

// gap goes on after n bytes that are missed.
func (w *Watcher) gap(f *flow, side int, n uint32) {
	st := &f.sides[side]
	st.next += n
	switch {
	case st.state == inBody && uint64(n) <= st.left:
		st.left -= uint64(n)
		st.bytes += uint64(n)
		if st.left == 0 {
			w.ended(f, side, cmp.Or(st.last, f.last))
		}
		return
	case st.state == inBlind || st.state == untilClose:
		st.bytes += uint64(n)
		return
	case st.state == lost:
		return
	case st.state == inChunks:
		st.state = inBlind
		st.bytes += uint64(n)
		return
	}
	w.counts.Gaps++
	w.lose(f, side)
}

// lose says that the stream is not understood until a message begins.
func (w *Watcher) lose(f *flow, side int) {
	st := &f.sides[side]
	st.state, st.head = lost, nil
	st.parsed.Reset()
	if side == responses {
		for _, c := range f.calls {
			c.doubtful = true
		}
	}
}

// read reads the segment that comes next.
func (w *Watcher) read(f *flow, side int, g segment) {
	st := &f.sides[side]
	st.next = g.seq + g.length
	st.last = g.at
	for start := true; g.length > 0 && !f.wish.Off; start = false {
		n := g.length
		switch st.state {
		case inHead:
			n = w.readHead(f, side, &g)
		case lost:
			if start && beginsLike(g.known(), side == requests) {
				if st.state = inHead; side == responses {
					w.latest(f)
				}
				continue
			}
		case inBody:
			n = uint32(min(uint64(n), st.left))
			st.left -= uint64(n)
			st.bytes += uint64(n)
			if st.left == 0 {
				w.ended(f, side, g.at)
			} else {
				w.skip(f, side, g.seq+n)
			}
		case inChunks:
			known, before := g.known(), st.body.Payload()
			used, done, err := st.body.Next(known)
			switch {
			case err != nil:
				w.lose(f, side)
			case done:
				n = uint32(used)
				st.bytes = uint64(st.body.Payload())
				w.ended(f, side, g.at)
			case !g.whole():
				st.state, st.bytes = inBlind, uint64(before)
				continue
			}
		case inBlind:
			st.bytes += uint64(n)
			if chunksEnd(&g) {
				w.ended(f, side, g.at)
			}
		case untilClose:
			st.bytes += uint64(n)
		}
		g.cut(n)
	}
}

// skip wishes that the rest of a body is not copied, but for the segment with its end, whose
// time counts.
func (w *Watcher) skip(f *flow, side int, next uint32) {
	st, i := &f.sides[side], 0
	if (side == requests) != f.Server {
		i = 1
	}
	if st.left < skipLeast || f.wish.Skip[i] && int32(f.wish.SkipTo[i]-next) > 0 {
		return
	}
	f.wish.Skip[i], f.wish.SkipTo[i], f.changed = true, next+uint32(min(st.left, skipMost))-1, true
}

// readHead reads more of a head. It returns how many bytes it has used of g.
func (w *Watcher) readHead(f *flow, side int, g *segment) uint32 {
	st := &f.sides[side]
	known := g.known()
	if len(st.head) == 0 {
		st.headAt = g.at
	}
	before := len(st.head)
	known = known[:min(len(known), maxHead-before)]
	if !w.room(f, len(known)) {
		w.counts.Refused++
		w.lose(f, side)
		return g.length
	}
	st.head = append(st.head, known...)
	if side == requests && !st.begun && !mayBegin(st.head) {
		w.off(f)
		return g.length
	}
	n, err := w.parse(f, side, st.head)
	whole := uint32(len(known)) == g.length
	if err == nil && n == 0 && !whole {
		// The rest is not known. What is there says most.
		if end := bytes.LastIndex(st.head, []byte("\r\n")); end > 0 {
			st.parsed.Reset()
			if n, err = w.parse(f, side, append(st.head[:end+2:end+2], "\r\n"...)); err == nil && n > 0 {
				w.begin(f, side)
				w.lose(f, side)
				return g.length
			}
		}
		err = errUnknown
	}
	switch {
	case err != nil && !st.begun:
		w.off(f) // not HTTP/1
		return g.length
	case err != nil:
		w.counts.Gaps++
		w.lose(f, side)
		return g.length
	case n == 0:
		return g.length // there is more to come
	}
	w.begin(f, side)
	st.head = nil // a connection that waits keeps nothing
	return uint32(n - before)
}

// mayBegin reports whether a connection of HTTP/1 may begin with b.
func mayBegin(b []byte) bool {
	const h2 = "PRI * HTTP/2.0"
	if len(b) >= 3 && strings.HasPrefix(h2, string(b[:min(len(b), len(h2))])) {
		return false
	}
	return len(b) == 0 || b[0] >= 'A' && b[0] <= 'Z' || b[0] == '\r'
}

func (w *Watcher) parse(f *flow, side int, b []byte) (int, error) {
	st := &f.sides[side]
	if side == requests {
		return http1.ParseRequest(b, &st.parsed)
	}
	c := f.waiting()
	if c == nil {
		return 0, errUnknown // a response to nothing
	}
	return http1.ParseResponse(b, &st.parsed, c.kind)
}

// latest drops all requests but the last one: a response that comes after a gap is that of the
// last request, because clients do not send one before they have the response to the one
// before (pipelines are long out of use).
func (w *Watcher) latest(f *flow) {
	for len(f.calls) > 1 {
		if c := f.calls[0]; c.answered {
			w.end(f, c, f.sides[responses].last, false)
		} else {
			w.counts.Dropped++
		}
		f.calls = slices.Delete(f.calls, 0, 1)
	}
}

// waiting is the request that the next response is for.
func (f *flow) waiting() *call {
	for _, c := range f.calls {
		if !c.answered {
			return c
		}
	}
	return nil
}

// begin is the head of a message, which parsed has.
func (w *Watcher) begin(f *flow, side int) {
	st := &f.sides[side]
	st.begun = true
	st.bytes, st.state = 0, inHead
	body := st.parsed.Body()
	if side == requests {
		w.beginRequest(f, st)
	} else if !w.beginResponse(f, st) {
		return
	}
	switch body.Kind() {
	case http1.BodyNone:
		w.ended(f, side, st.headAt)
	case http1.BodyLength:
		st.state, st.left = inBody, bodyLength(&st.parsed)
	case http1.BodyChunked:
		st.state, st.body = inChunks, body
	case http1.BodyUntilClose:
		st.state = untilClose
	case http1.BodyTunnel:
		w.finish(f, st.headAt, false)
		f.done = false // what is on its way is not another flow
		w.off(f)
	}
}

func (w *Watcher) beginRequest(f *flow, st *stream) {
	// A request comes after a response that was missed, or has ended unseen.
	f.calls = slices.DeleteFunc(f.calls, func(c *call) bool {
		if !c.doubtful {
			return false
		}
		if c.answered {
			w.end(f, c, f.sides[responses].last, false)
		} else {
			w.counts.Dropped++
		}
		return true
	})
	if r := &f.sides[responses]; r.state == inBlind && len(f.calls) == 1 {
		w.ended(f, responses, r.last)
	}
	if len(f.calls) >= maxCalls {
		w.off(f)
		return
	}
	w.id++
	h := &st.parsed
	c := &call{kind: h.Kind(), Request: Request{
		ID: w.id, Pod: f.Pod, Local: f.Local, Remote: f.Remote, Server: f.Server, Began: st.headAt,
		Method: string(h.Method()), Authority: string(h.Authority()), Path: string(h.Path()),
	}}
	f.calls = append(f.calls, c)
	w.emit(Began, &c.Request)
}

// beginResponse returns false if another response follows to the same request.
func (w *Watcher) beginResponse(f *flow, st *stream) bool {
	c := f.waiting()
	if c == nil || st.parsed.Interim() {
		return false
	}
	c.answered, c.doubtful = true, false
	c.Status, c.Answered = st.parsed.Status(), st.headAt
	w.emit(Answered, &c.Request)
	return true
}

// ended is the end of a message.
func (w *Watcher) ended(f *flow, side int, at time.Duration) {
	st := &f.sides[side]
	st.state = inHead
	if side == requests {
		if n := len(f.calls); n > 0 {
			f.calls[n-1].RequestBytes = st.bytes
		}
		return
	}
	if len(f.calls) == 0 || !f.calls[0].answered {
		return
	}
	c := f.calls[0]
	f.calls = slices.Delete(f.calls, 0, 1)
	w.end(f, c, at, false)
}

func (w *Watcher) end(f *flow, c *call, at time.Duration, reset bool) {
	c.ResponseBytes = f.sides[responses].bytes
	if !c.answered {
		c.ResponseBytes = 0
	}
	c.Ended, c.Reset = at, reset
	w.emit(Ended, &c.Request)
}

// finish ends all requests: the server sends no more.
func (w *Watcher) finish(f *flow, at time.Duration, reset bool) {
	st := f.sides[responses].state
	for i, c := range f.calls {
		if c.doubtful && !c.answered {
			w.counts.Dropped++
			continue
		}
		w.end(f, c, at, reset || !c.answered || i == 0 && (st == inBody || st == inChunks))
	}
	f.calls, f.done = nil, true
}

// bodyLength is Content-Length, of a head with a body of that length.
func bodyLength(h *http1.Head) uint64 {
	var n uint64
	for _, c := range h.Get("Content-Length") {
		if c < '0' || c > '9' || n > 1<<59 {
			break
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}
