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

// Backlog is bytes that wait for a receiver: at most a stream's window. While they
// are few they lie in a slice of their own. A stream that is held up takes a buffer
// with room for its whole window, rather than growing and moving a slice all the
// time.
type Backlog struct {
	// Bytes are what waits. They may be set where there are none.
	Bytes   []byte
	backing *[pendingLarge]byte // of Bytes, once that is large; nil while it is small
	charged int                 // of Bytes, what a pod's usage knows of
}

// Len is how many bytes wait.
func (l *Backlog) Len() int { return len(l.Bytes) }

// Add takes p in.
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
	case need > pendingLarge: // a replay before it
		l.Bytes = append(slices.Grow([]byte(nil), need), l.Bytes...)
		l.release()
	}
	l.Bytes = append(l.Bytes, p...)
}

// Take moves what is there into p.
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

// Drop drops everything.
func (l *Backlog) Drop() {
	l.Bytes = nil
	l.release()
}

// release gives the buffer back: no bytes may lie in it.
func (l *Backlog) release() {
	if l.backing != nil {
		pendings.Put(l.backing)
		l.backing = nil
	}
}

// Charge tells usage that so many bytes wait here now; usage may be nil.
func (l *Backlog) Charge(now int, usage *Usage) {
	if usage != nil && now != l.charged {
		usage.held.Add(int64(now - l.charged))
		l.charged = now
	}
}
