package quota

import (
	"slices"
	"sync"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

const (
	pendingSmall = 16 << 10
	pendingLarge = http2.DefaultStreamWindow
)

var pendings = sync.Pool{New: func() any { return new([pendingLarge]byte) }}

// Backlog has bytes that wait for a receiver: at most a stream's window. Few bytes are in
// a slice of their own. For more, the Backlog takes a buffer with room for the whole
// window, so that it need not enlarge and move a slice again and again.
type Backlog struct {
	// Bytes are the bytes that wait. They may be set while there are none.
	Bytes   []byte
	backing *[pendingLarge]byte // the buffer in which Bytes are; nil: they are in a slice of their own
	charged Charge
}

// Len is the number of bytes that wait.
func (l *Backlog) Len() int { return len(l.Bytes) }

// Add appends a copy of p.
func (l *Backlog) Add(p []byte) {
	need := len(l.Bytes) + len(p)
	switch {
	case len(p) == 0:
		return
	case need > cap(l.Bytes) && need > pendingSmall && need <= pendingLarge:
		if l.backing == nil {
			l.backing = pendings.Get().(*[pendingLarge]byte)
		}
		l.Bytes = l.backing[:copy(l.backing[:], l.Bytes)] // to the front
	case need > pendingLarge: // the replay of a retried request is before it
		l.Bytes = append(slices.Grow([]byte(nil), need), l.Bytes...)
		l.release()
	}
	l.Bytes = append(l.Bytes, p...)
}

// Take moves bytes from the front into p, and returns how many.
func (l *Backlog) Take(p []byte) int {
	n := copy(p, l.Bytes)
	l.Shift(n)
	return n
}

// Shift drops the first n bytes.
func (l *Backlog) Shift(n int) {
	if n < len(l.Bytes) {
		l.Bytes = l.Bytes[n:]
		return
	}
	l.Drop()
}

// Drop drops all bytes.
func (l *Backlog) Drop() {
	l.Bytes = nil
	l.release()
}

// release gives the buffer back. Bytes must not be in it any more.
func (l *Backlog) release() {
	if l.backing != nil {
		pendings.Put(l.backing)
		l.backing = nil
	}
}

// Charge sets the number of bytes that usage counts for this Backlog to now. usage may be
// nil.
func (l *Backlog) Charge(now int, usage *Usage) { l.charged.Set(now, usage) }

// Charge is a number of bytes that a Usage counts. The zero value is 0.
type Charge struct{ bytes int }

// Set sets the number to now. usage may be nil; it is the same each time that the number
// is not 0.
func (c *Charge) Set(now int, usage *Usage) {
	if usage != nil && now != c.bytes {
		usage.hold(int64(now - c.bytes))
		c.bytes = now
	}
}
