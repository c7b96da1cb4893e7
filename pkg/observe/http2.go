package observe

import (
	"cmp"
	"encoding/binary"
	"strconv"
	"time"

	engine "github.com/underlane/underlane/pkg/l7proxy/http2"

	"github.com/underlane/underlane/pkg/l7proxy/reply"
)

const (
	maxStreams = 1024    // calls of a connection
	http2Size  = 2 << 10 // what a connection of HTTP/2 keeps without tables and calls, in bytes
)

// http2 is a connection of HTTP/2.
type http2 struct {
	sides     [2]*frames // requests, responses
	calls     map[uint32]*call
	callBytes int
	last      uint32 // stream of the last request
	recent    uint32 // a stream whose call was looked for last
	found     *call  // that call; nil: there is none, or none was looked for
}

// call returns the call of a stream, or nil.
func (h *http2) call(stream uint32) *call {
	if h.found != nil && h.recent == stream {
		return h.found
	}
	h.recent, h.found = stream, h.calls[stream]
	return h.found
}

func (h *http2) size() int {
	return http2Size + h.callBytes + h.sides[0].block.size() + h.sides[1].block.size()
}

// beginHTTP2 turns a flow that begins into one of HTTP/2, when a side has sent first.
func (w *Watcher) beginHTTP2(f *flow, side int, first []byte, at time.Duration) {
	if !w.room(f, http2Size) {
		w.counts.Refused++
		w.stop(f)
		return
	}
	f.h2 = &http2{calls: make(map[uint32]*call)}
	for i := range f.h2.sides {
		s := &frames{preface: i == requests}
		s.block.make(false)
		f.h2.sides[i] = s
		f.sides[i].begun = true
	}
	f.h2.feed(w, f, side, first, at)
}

// joinHTTP2 is the same of a flow that was open.
func (w *Watcher) joinHTTP2(f *flow) {
	if !w.room(f, http2Size+2*2*firstTable) {
		w.counts.Refused++
		w.stop(f)
		return
	}
	f.h2 = &http2{calls: make(map[uint32]*call)}
	for i := range f.h2.sides {
		f.h2.sides[i] = &frames{lost: true}
	}
}

// readFrames reads a segment.
func (h *http2) readFrames(w *Watcher, f *flow, side int, g *segment) {
	s := h.sides[side]
	known, found := g.known(), s.lost
	if found {
		if !likeFrames(known) || !w.room(f, 2*int(max(s.block.allowed, firstTable))) {
			return
		}
		s.lost = false
		s.block.make(true)
	}
	h.feed(w, f, side, known, g.at)
	if rest := g.length - uint32(len(known)); rest > 0 && f.h2 != nil {
		h.miss(w, f, side, rest, g.at)
	}
	if found && f.h2 != nil {
		h.walk(w, f, side)
	}
}

// walk tells the kernel where a frame begins.
func (h *http2) walk(w *Watcher, f *flow, side int) {
	if n, ok := h.sides[side].boundary(); ok {
		h.frameWish(w, f, side, f.sides[side].next+n)
	}
}

func (h *http2) frameWish(w *Watcher, f *flow, side int, seq uint32) {
	i := f.index(side)
	f.wish.Framed[i], f.wish.Frame[i], f.changed = true, seq, true
}

// miss goes on after n bytes that are not known.
func (h *http2) miss(w *Watcher, f *flow, side int, n uint32, at time.Duration) {
	s := h.sides[side]
	switch {
	case s.lost:
	case !s.passes(n):
		w.counts.Gaps++
		h.loseFrames(w, f, side)
	default:
		if s.left -= n; s.left == 0 {
			h.endFrame(w, f, side, at)
		}
	}
}

// loseFrames says that a side is not understood until a segment begins like a frame.
func (h *http2) loseFrames(w *Watcher, f *flow, side int) {
	s := h.sides[side]
	*s = frames{lost: true, block: block{allowed: s.block.allowed}}
	if side == requests {
		return
	}
	w.counts.Dropped += uint64(len(h.calls))
	clear(h.calls)
	h.found = nil
	h.callBytes = 0
}

// feed reads bytes.
func (h *http2) feed(w *Watcher, f *flow, side int, b []byte, at time.Duration) {
	s := h.sides[side]
	if s.preface {
		n := min(len(b), len(engine.Preface)-s.have)
		if string(b[:n]) != engine.Preface[s.have:s.have+n] {
			w.off(f)
			return
		}
		b = b[n:]
		if s.have += n; s.have == len(engine.Preface) {
			s.preface, s.have = false, 0
		}
	}
	for len(b) > 0 && !s.lost && !f.wish.Off {
		if s.left == 0 {
			n := copy(s.head[s.have:], b)
			b = b[n:]
			if s.have += n; s.have < frameHeader {
				return
			}
			s.begin()
			h.beginFrame(w, f, side, at)
			if s.left == 0 && !s.lost {
				h.endFrame(w, f, side, at)
			}
			continue
		}
		n := min(uint32(len(b)), s.left)
		if !s.payload(b[:n]) {
			h.garbage(w, f, side)
			return
		}
		b = b[n:]
		if s.left -= n; s.left == 0 {
			h.endFrame(w, f, side, at)
		}
	}
}

// garbage is what no peer may send, or over a limit.
func (h *http2) garbage(w *Watcher, f *flow, side int) {
	w.counts.Gaps++
	h.loseFrames(w, f, side)
}

// payload reads bytes of the frame's payload. false: they are not what they should be.
func (s *frames) payload(b []byte) bool {
	switch s.kind {
	case engine.FrameHeaders, engine.FrameContinuation, engine.FramePushPromise:
		after := s.left - uint32(len(b)) // of the payload
		if s.padded {
			if s.padded, s.pad = false, uint32(b[0]); s.pad+s.prefix >= s.left {
				return false
			}
			b = b[1:]
		}
		n := min(uint32(len(b)), s.prefix)
		s.prefix -= n
		b = b[n:]
		if after < s.pad {
			b = b[:max(0, len(b)-int(s.pad-after))]
		}
		return len(b) == 0 || s.block.write(b)
	case engine.FrameSettings:
		for len(b) > 0 {
			n := copy(s.small[s.filled:6], b)
			b = b[n:]
			if s.filled += n; s.filled == 6 {
				s.filled = 0
				s.setting()
			}
		}
	case engine.FrameRSTStream, engine.FrameGoAway:
		s.filled += copy(s.small[s.filled:], b)
	}
	return true
}

// setting notes what the peer's blocks may use. It is read where it was sent: the peer
// follows it later.
func (s *frames) setting() {
	if binary.BigEndian.Uint16(s.small[:]) == engine.SettingHeaderTableSize {
		s.tableSize, s.tableSet = binary.BigEndian.Uint32(s.small[2:]), true
	}
}

func (h *http2) beginFrame(w *Watcher, f *flow, side int, at time.Duration) {
	s := h.sides[side]
	headers := s.kind == engine.FrameHeaders || s.kind == engine.FramePushPromise
	if (s.block.stream != 0) != (s.kind == engine.FrameContinuation) ||
		s.kind == engine.FrameContinuation && s.stream != s.block.stream || headers && s.stream == 0 {
		h.garbage(w, f, side)
		return
	}
	switch s.kind {
	case engine.FrameData:
		h.data(w, f, side, s.stream, s.left)
	case engine.FrameHeaders:
		s.block.open(s.stream, s.flags.Has(engine.FlagEndStream), false)
		s.at = at
	case engine.FramePushPromise:
		s.block.open(s.stream, false, true)
	}
}

func (h *http2) endFrame(w *Watcher, f *flow, side int, at time.Duration) {
	s := h.sides[side]
	switch s.kind {
	case engine.FrameData:
		if s.flags.Has(engine.FlagEndStream) && side == responses {
			h.endStream(w, f, s.stream, at, false, 0)
		}
	case engine.FrameHeaders, engine.FrameContinuation, engine.FramePushPromise:
		if !s.flags.Has(engine.FlagEndHeaders) { // the same bit for all three
			return
		}
		stream := s.block.stream
		if !s.block.close() {
			h.garbage(w, f, side)
			return
		}
		if !s.block.discard {
			h.fields(w, f, side, stream, &s.block, s.at, at)
		}
	case engine.FrameRSTStream:
		if s.filled == 4 {
			h.endStream(w, f, s.stream, at, true, binary.BigEndian.Uint32(s.small[:]))
		}
	case engine.FrameSettings:
		if s.tableSet {
			s.tableSet = false
			h.sides[1-side].block.allow(s.tableSize)
		}
	case engine.FrameGoAway:
		if s.filled == len(s.small) && side == responses {
			last := binary.BigEndian.Uint32(s.small[:]) &^ (1 << 31)
			for id := range h.calls {
				if id > last { // the server has not seen it
					h.endStream(w, f, id, at, true, uint32(engine.RefusedStream))
				}
			}
		}
	}
}

func (h *http2) data(w *Watcher, f *flow, side int, stream, length uint32) {
	if c := h.call(stream); c != nil && side == requests {
		c.RequestBytes += uint64(length)
	} else if c != nil {
		c.ResponseBytes += uint64(length)
	}
}

// fields takes a whole block, which began at began.
func (h *http2) fields(w *Watcher, f *flow, side int, stream uint32, b *block, began, at time.Duration) {
	if !f.sure && (b.method != "" || b.status != "") {
		if f.sure = true; (b.method != "") != (side == requests) {
			f.swap = true
		}
	}
	if (side == requests) != f.swap {
		switch {
		case stream <= h.last: // trailers
		case b.method == "" && !b.unknown:
			w.counts.Gaps++ // malformed: the server refuses it
		default:
			h.request(w, f, stream, b, began)
		}
		return
	}
	c := h.call(stream)
	if c == nil {
		return
	}
	if b.grpcStatus != "" && (c.GRPC || b.grpc || c.guessed || b.unknown) { // grpc-web may have one in its head
		c.GRPC, c.GRPCStatus = true, reply.GRPCStatus(b.grpcStatus)
	}
	if !c.answered {
		status, _ := strconv.Atoi(b.status)
		if status >= 100 && status < 200 && !b.last {
			return
		}
		c.answered, c.Status, c.Answered = true, status, began
		c.GRPC = c.GRPC || b.grpc
		c.Unknown = c.Unknown || b.status == ""
		w.emit(Answered, &c.Request)
	}
	if b.last {
		h.endStream(w, f, stream, at, false, 0)
	}
}

func (h *http2) request(w *Watcher, f *flow, stream uint32, b *block, began time.Duration) {
	h.last = stream
	c := w.call()
	c.guessed = b.unknown
	c.Flow, c.HTTP2, c.GRPC, c.GRPCStatus, c.Began = f.Opening, true, b.grpc, NoGRPCStatus, began
	c.Method, c.Authority, c.Path = b.method, b.authority, b.path
	c.Unknown = b.unknown && (b.method == "" || b.path == "" || b.authority == "")
	if len(h.calls) >= maxStreams || !w.room(f, h.callBytes+c.size()-min(f.kept, h.callBytes)) {
		w.counts.Refused++
		return
	}
	w.id++
	c.ID = w.id
	h.calls[stream] = c
	h.recent, h.found = stream, c
	h.callBytes += c.size()
	w.emit(Began, &c.Request)
}

func (h *http2) endStream(w *Watcher, f *flow, stream uint32, at time.Duration, reset bool, code uint32) {
	c := h.call(stream)
	if c == nil {
		return
	}
	delete(h.calls, stream)
	h.found = nil
	h.callBytes -= c.size()
	c.Ended, c.Reset, c.ResetCode = cmp.Or(at, c.Began), reset, code
	w.emit(Ended, &c.Request)
	w.free(c)
}

// finishStreams ends all calls: the connection has ended within them.
func (h *http2) finishStreams(w *Watcher, f *flow, at time.Duration) {
	for id := range h.calls {
		h.endStream(w, f, id, at, true, uint32(engine.NoError))
	}
}
