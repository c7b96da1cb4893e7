package mux

import (
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// A stream begins with a window of first bytes. So many wait if its receiver does not read,
// and hundreds of them are a burst of work. Where a receiver takes a whole window within a
// time, it is doubled, up to windowMost, as far as the pod may have it (quota.Usage.Widen): a
// window is what a stream carries in a round trip. This begins after so many bytes.
//
// Those of an opaque stream are more than the kernel takes for a receiver that does not read
// (rawio bounds what is unsent to 128 KiB). A stream of HTTP/1 carries many exchanges, often
// with responses of 64 KiB and more, for which a short window costs round trips.
var windowsOf = [...]windows{
	HTTP1:  {first: http2.FirstStreamWindow, within: 250 * time.Millisecond},
	Opaque: {first: 32 << 10, after: 512 << 10, within: 50 * time.Millisecond},
}

// windows are how the windows of streams begin, in bytes, and when they grow.
type windows struct {
	first, after int
	within       time.Duration
}

const windowMost = http2.DefaultStreamWindow

// shortWait is how long a stream may wait, in round trips, before its window grows.
const shortWait = 2 * time.Millisecond

// over returns the windows of an opaque stream whose peer is a round trip of rtt away. Where that
// is long, a stream that carries some hundred kilobytes would wait for many round trips, and a
// TCP connection only for those of its slow start: the window grows sooner. 0: rtt is not known.
func (w windows) over(rtt time.Duration) windows {
	w.within += rtt // for a window arrives in two parts, where the sender had to wait
	if rtt > 0 {
		w.after = max(w.first, min(w.after, w.first*int(shortWait/rtt)))
	}
	return w
}

// window is the receive window of a stream.
type window struct {
	// The connection's lock guards these.
	since time.Duration // when taken began
	taken int           // bytes that the receiver has taken since
	early int           // those that it has taken in all, up to where the window may be widened
	size  int           // of the window; 0: it was not widened

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
	if of := &c.windows; w.size < windowMost {
		if now := c.Heard(); now-w.since > of.within {
			w.since, w.taken = now, 0
		}
		w.taken += n
		w.early = min(w.early+n, of.after)
		if due = w.early == of.after && w.taken >= max(w.size, of.first); due {
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
	size := windowsOf[s.c.kind].first + w.widened
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
