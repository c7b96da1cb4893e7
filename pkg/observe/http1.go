package observe

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
)

// gapText goes on after n bytes that are missed.
func (f *flow) gapText(w *Watcher, side int, n uint32) {
	st := &f.sides[side]
	switch {
	case st.state == inBody && uint64(n) <= st.left:
		st.left -= uint64(n)
		st.bytes += uint64(n)
		if st.left == 0 {
			f.ended(w, side, cmp.Or(st.last, f.last))
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
	f.lose(w, side)
}

// lose says that the stream is not understood until a message begins.
func (f *flow) lose(w *Watcher, side int) {
	st := &f.sides[side]
	st.state, st.head = lost, nil
	if side == responses {
		for _, c := range f.calls {
			c.doubtful = true
		}
	}
}

// readText reads a segment of HTTP/1, or until the flow turns out to be HTTP/2.
func (f *flow) readText(w *Watcher, side int, g *segment) {
	st := &f.sides[side]
	for start := true; g.length > 0 && !f.wish.Off && f.h2 == nil; start = false {
		n := g.length
		switch st.state {
		case inHead:
			n = f.readHead(w, side, g)
		case lost:
			switch {
			case start && beginsLike(g.known(), side == requests):
				f.sure = true
				if st.state = inHead; side == responses {
					f.latest(w)
				}
				continue
			case start && !f.sure && beginsLike(g.known(), side != requests):
				f.swap = true
			case start && f.Joined && len(f.calls) == 0 && likeFrames(g.known()):
				w.joinHTTP2(f)
				return
			}
		case inBody:
			n = uint32(min(uint64(n), st.left))
			st.left -= uint64(n)
			st.bytes += uint64(n)
			if st.left == 0 {
				f.ended(w, side, g.at)
			} else {
				f.skip(w, side, g.seq+n)
			}
		case inChunks:
			known, before := g.known(), st.body.Payload()
			used, done, err := st.body.Next(known)
			switch {
			case err != nil:
				f.lose(w, side)
			case done:
				n = uint32(used)
				st.bytes = uint64(st.body.Payload())
				f.ended(w, side, g.at)
			case !g.whole():
				st.state, st.bytes = inBlind, uint64(before)
				continue
			}
		case inBlind:
			st.bytes += uint64(n)
			if chunksEnd(g) {
				f.ended(w, side, g.at)
			}
		case untilClose:
			st.bytes += uint64(n)
		}
		g.cut(n)
	}
}

// skip wishes that the rest of a body is not copied, but for the segment with its end, whose
// time counts.
func (f *flow) skip(w *Watcher, side int, next uint32) {
	st, i := &f.sides[side], f.index(side)
	if st.left < skipLeast || f.wish.Skip[i] && int32(f.wish.SkipTo[i]-next) > 0 {
		return
	}
	f.wish.Skip[i], f.wish.SkipTo[i], f.changed = true, next+uint32(min(st.left, skipMost))-1, true
}

// readHead reads more of a head. It returns how many bytes it has used of g.
func (f *flow) readHead(w *Watcher, side int, g *segment) uint32 {
	st := &f.sides[side]
	known := g.known()
	if len(st.head) == 0 {
		st.headAt = g.at
	}
	before := len(st.head)
	known = known[:min(len(known), maxHead-before)]
	head := known // most heads are in one segment: those are not kept
	if before > 0 {
		head = append(st.head, known...)
	}
	if !st.begun {
		switch begins := beginsHTTP2(head, side); {
		case begins == perhaps:
			f.keep(w, side, head)
			return g.length
		case begins == yes:
			st.head = nil
			w.beginHTTP2(f, side, head, g.at)
			return uint32(len(known))
		case side == requests && !mayBegin(head):
			w.off(f)
			return g.length
		}
	}
	n, err := f.parse(w, side, head)
	whole := uint32(len(known)) == g.length
	if err == nil && n == 0 && !whole {
		// The rest is not known. What is there says most.
		if end := bytes.LastIndex(head, []byte("\r\n")); end > 0 {
			if n, err = f.parse(w, side, append(head[:end+2:end+2], "\r\n"...)); err == nil && n > 0 {
				f.begin(w, side)
				f.lose(w, side)
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
		f.lose(w, side)
		return g.length
	case n == 0: // there is more to come
		f.keep(w, side, head)
		return g.length
	}
	f.begin(w, side)
	st.head = nil // a connection that waits keeps nothing
	return uint32(n - before)
}

// keep keeps a head that is not complete. What it has already is charged.
func (f *flow) keep(w *Watcher, side int, head []byte) {
	st := &f.sides[side]
	if !w.room(f, len(head)-len(st.head)) {
		w.counts.Refused++
		f.lose(w, side)
		return
	}
	if len(st.head) == 0 {
		head = bytes.Clone(head) // it is the segment's
	}
	st.head = head
}

// methodOf returns a method without a copy if it is a usual one.
func methodOf(b []byte) string {
	for _, m := range [...]string{"GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS"} {
		if string(b) == m {
			return m
		}
	}
	return string(b)
}

// mayBegin reports whether a connection of HTTP/1 may begin with b.
func mayBegin(b []byte) bool {
	return len(b) == 0 || b[0] >= 'A' && b[0] <= 'Z' || b[0] == '\r'
}

func (f *flow) parse(w *Watcher, side int, b []byte) (int, error) {
	h := &w.heads[side]
	h.Reset()
	if side == requests {
		return http1.ParseRequest(b, h)
	}
	c := f.waiting()
	if c == nil {
		return 0, errUnknown // a response to nothing
	}
	return http1.ParseResponse(b, h, c.kind)
}

// latest drops all requests but the last one: a response that comes after a gap is that of the
// last request, because clients do not send one before they have the response to the one
// before (pipelines are long out of use).
func (f *flow) latest(w *Watcher) {
	for len(f.calls) > 1 {
		if c := f.calls[0]; c.answered {
			f.end(w, c, f.sides[responses].last, false)
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
func (f *flow) begin(w *Watcher, side int) {
	st := &f.sides[side]
	st.begun = true
	st.bytes, st.state = 0, inHead
	head := &w.heads[side]
	body := head.Body()
	if side == requests {
		if f.beginRequest(w, st); f.wish.Off {
			return
		}
	} else if !f.beginResponse(w, st) {
		return
	}
	switch body.Kind() {
	case http1.BodyNone:
		f.ended(w, side, st.headAt)
	case http1.BodyLength:
		st.state, st.left = inBody, bodyLength(head)
	case http1.BodyChunked:
		st.state, st.body = inChunks, body
	case http1.BodyUntilClose:
		st.state = untilClose
	case http1.BodyTunnel:
		f.finishText(w, st.headAt, false)
		w.off(f)
	}
}

func (f *flow) beginRequest(w *Watcher, st *stream) {
	// A request comes after a response that was missed, or has ended unseen.
	f.calls = slices.DeleteFunc(f.calls, func(c *call) bool {
		if !c.doubtful {
			return false
		}
		if c.answered {
			f.end(w, c, f.sides[responses].last, false)
		} else {
			w.counts.Dropped++
		}
		return true
	})
	if r := &f.sides[responses]; r.state == inBlind && len(f.calls) == 1 {
		f.ended(w, responses, r.last)
	}
	if len(f.calls) >= maxCalls {
		w.counts.Refused++
		w.stop(f)
		return
	}
	w.id++
	h := &w.heads[requests]
	c := w.call()
	c.kind = h.Kind()
	c.ID, c.Flow, c.Began, c.GRPCStatus = w.id, f.Opening, st.headAt, NoGRPCStatus
	c.Method, c.Authority, c.Path = methodOf(h.Method()), w.name(h.Authority()), w.name(h.Path())
	if !w.room(f, c.size()) {
		w.counts.Refused++
		w.stop(f)
		return
	}
	f.calls = append(f.calls, c)
	w.emit(Began, &c.Request)
}

// beginResponse returns false if another response follows to the same request.
func (f *flow) beginResponse(w *Watcher, st *stream) bool {
	c := f.waiting()
	head := &w.heads[responses]
	if c == nil || head.Interim() {
		return false
	}
	c.answered, c.doubtful = true, false
	c.Status, c.Answered = head.Status(), st.headAt
	w.emit(Answered, &c.Request)
	return true
}

// ended is the end of a message.
func (f *flow) ended(w *Watcher, side int, at time.Duration) {
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
	f.end(w, c, at, false)
}

func (f *flow) end(w *Watcher, c *call, at time.Duration, reset bool) {
	c.ResponseBytes = f.sides[responses].bytes
	if !c.answered {
		c.ResponseBytes = 0
	}
	c.Ended, c.Reset = at, reset
	w.emit(Ended, &c.Request)
	w.free(c)
}

// finishText ends all requests of HTTP/1.
func (f *flow) finishText(w *Watcher, at time.Duration, reset bool) {
	st := f.sides[responses].state
	for i, c := range f.calls {
		if c.doubtful && !c.answered {
			w.counts.Dropped++
			continue
		}
		f.end(w, c, at, reset || !c.answered || i == 0 && (st == inBody || st == inChunks))
	}
	f.calls = nil
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
