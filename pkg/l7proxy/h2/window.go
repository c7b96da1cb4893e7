package h2

import (
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// Each direction of a stream begins with a receive window of http2.FirstStreamWindow. So many
// bytes wait in its pipe if the receiver does not read, and the sender hands them over as fast
// as it can: with hundreds of streams to a receiver whose own window is a byte, that is a
// burst of work and of memory. Where the receiver takes a whole window within windowTime, the
// window is doubled, up to http2.DefaultStreamWindow, as far as the pod may have it
// (quota.Usage.Widen): a window is what a stream carries in a round trip.
//
// windowTime is long enough for two round trips between distant regions.
const windowTime = 250 * time.Millisecond

// window follows how quickly the receiver takes what comes from src. The zero value is that of
// a stream that begins. The stream's mu guards it.
type window struct {
	since   time.Duration // when taken began, by balance.Now
	taken   int           // bytes that the receiver has taken since
	widened int           // bytes beyond http2.FirstStreamWindow, which the pod's usage counts
}

func (w *window) size() int { return http2.FirstStreamWindow + w.widened }

// took notes that the receiver has taken n bytes, and reports whether the window is to be
// doubled.
func (w *window) took(n int, now time.Duration) bool {
	if w.size() >= http2.DefaultStreamWindow {
		return false
	}
	if now-w.since > windowTime {
		w.since, w.taken = now, 0
	}
	if w.taken += n; w.taken < w.size() {
		return false
	}
	w.taken = 0
	return true
}

// widen doubles the window that src has, if the pod may have it.
func (p *pipe) widen() {
	more := p.window.size()
	if p.stream.gone || !p.stream.client.s.Quota.Widen(more) {
		return
	}
	p.window.widened += more
	p.src.Lock()
	p.src.Engine.Widen(p.srcID, p.window.size())
	p.src.Unlock()
}

// narrow ends the charge of the window: the stream has ended on src.
func (p *pipe) narrow() {
	p.stream.client.s.Quota.Widen(-p.window.widened)
	p.window = window{}
}
