package quota

import (
	"slices"
	"sync"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

const (
	pendingSmall  = 16 << 10
	pendingMore   = 32 << 10 // the window of an opaque stream at first
	pendingMedium = 64 << 10
	pendingLarge  = http2.DefaultStreamWindow
)

var pending = [...]struct {
	size    int
	buffers sync.Pool
}{
	{pendingMore, sync.Pool{New: func() any { b := make([]byte, pendingMore); return &b }}},
	{pendingMedium, sync.Pool{New: func() any { b := make([]byte, pendingMedium); return &b }}},
	{pendingLarge, sync.Pool{New: func() any { b := make([]byte, pendingLarge); return &b }}},
}

// Backlog has bytes that wait for a receiver: at most a stream's window. Few bytes are in
// a slice of their own. For more, the Backlog takes a buffer with room for 32 or 64 KiB, and then
// one for the whole window, so that it need not enlarge and move a slice again and again.
type Backlog struct {
	// Bytes are the bytes that wait. They may be set while there are none.
	Bytes   []byte
	backing *[]byte // the buffer in which Bytes are; nil: they are in a slice of their own
	charged Charge
}

// Len is the number of bytes that wait.
func (l *Backlog) Len() int { return len(l.Bytes) }

// Size is the memory in bytes that they take.
func (l *Backlog) Size() int {
	if l.backing != nil {
		return len(*l.backing)
	}
	return len(l.Bytes)
}

// Add appends a copy of p.
func (l *Backlog) Add(p []byte) {
	need := len(l.Bytes) + len(p)
	switch {
	case len(p) == 0:
		return
	case need > cap(l.Bytes) && need > pendingSmall && need <= pendingLarge:
		l.fit(need)
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

// fit moves the bytes to the front of a buffer with room for need bytes.
func (l *Backlog) fit(need int) {
	old := l.backing
	if old != nil && need <= len(*old) {
		l.Bytes = (*old)[:copy(*old, l.Bytes)]
		return
	}
	for i := range pending {
		if p := &pending[i]; need <= p.size {
			l.backing = p.buffers.Get().(*[]byte)
			break
		}
	}
	l.Bytes = (*l.backing)[:copy(*l.backing, l.Bytes)]
	giveBack(old)
}

// release gives the buffer back. Bytes must not be in it any more.
func (l *Backlog) release() {
	giveBack(l.backing)
	l.backing = nil
}

func giveBack(b *[]byte) {
	for i := range pending {
		if p := &pending[i]; b != nil && len(*b) == p.size {
			p.buffers.Put(b)
		}
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
