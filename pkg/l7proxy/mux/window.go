package mux

import (
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// An opaque stream begins with a window of windowFirst. So many bytes wait if its receiver does
// not read. Where a receiver takes a whole window within windowTime, it is doubled, up to
// windowMost, as far as the pod may have it (quota.Usage.Widen): a window is what a stream
// carries in a round trip. This begins after windowAfter bytes, which are more than the kernel
// takes for a receiver that does not read (rawio bounds what is unsent to 128 KiB).
const (
	windowAfter = 512 << 10
	windowFirst = 32 << 10
	windowMost  = http2.DefaultStreamWindow
	windowTime  = 50 * time.Millisecond
)

// window is the receive window of an opaque stream.
type window struct {
	// The connection's lock guards these.
	since time.Duration // when taken began
	taken int           // bytes that the receiver has taken since
	early int           // those that it has taken in all, up to windowAfter
	size  int           // of the window; 0: windowFirst

	// The stream's mu guards these.
	widened int // by how much it was widened
	charged int // the part of it that the usage counts
}

// consumed returns n bytes of window to the peer, because the receiver has taken as many.
func (s *Stream) consumed(n int) {
	c, w := s.c, &s.window
	due := false
	c.Lock()
	c.Engine.Consume(s.id, n)
	if c.kind == Opaque {
		if now := c.Heard(); now-w.since > windowTime {
			w.since, w.taken = now, 0
		}
		w.taken += n
		w.early = min(w.early+n, windowAfter)
		if due = w.early == windowAfter && w.taken >= max(w.size, windowFirst); due {
			w.taken = 0
		}
	}
	c.Unlock()
	if due {
		s.widen()
	}
}

// widen doubles the window, if the pod may have it.
func (s *Stream) widen() {
	w := &s.window
	s.mu.Lock()
	size := windowFirst + w.widened
	if s.closed || s.err != nil || size >= windowMost || !s.usage.Widen(size) {
		s.mu.Unlock()
		return
	}
	w.widened += size
	w.charged += size
	s.mu.Unlock()
	s.c.Lock()
	w.size = 2 * size
	s.c.Engine.Widen(s.id, w.size)
	s.c.Unlock()
}

// narrow ends the charge of the window. s.mu is held.
func (s *Stream) narrow() {
	s.usage.Widen(-s.window.charged)
	s.window.charged = 0
}
