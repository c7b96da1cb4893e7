package l7proxy

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

// backlog is bytes that wait for somebody to take them: at most a stream's
// window. While they are few they lie in a slice of their own; a stream that is
// held up takes a buffer with room for its whole window, rather than growing and
// moving a slice all the time.
type backlog struct {
	bytes   []byte
	backing *[pendingLarge]byte // of bytes, once that is large; nil while it is small
	charged int                 // of bytes, what a pod's use knows of
}

func (l *backlog) len() int { return len(l.bytes) }

// add takes p in.
func (l *backlog) add(p []byte) {
	need := len(l.bytes) + len(p)
	switch {
	case len(p) == 0:
		return
	case need > cap(l.bytes) && need > pendingSmall && need <= pendingLarge:
		if l.backing == nil {
			l.backing = pendings.Get().(*[pendingLarge]byte)
		}
		l.bytes = l.backing[:copy(l.backing[:], l.bytes)] // to the front
	case need > pendingLarge: // a replay before it
		l.bytes = append(slices.Grow([]byte(nil), need), l.bytes...)
		l.release()
	}
	l.bytes = append(l.bytes, p...)
}

// take moves what is there into p.
func (l *backlog) take(p []byte) int {
	n := copy(p, l.bytes)
	l.shift(n)
	return n
}

// shift drops the first n bytes.
func (l *backlog) shift(n int) {
	if n < len(l.bytes) {
		l.bytes = l.bytes[n:]
		return
	}
	l.drop()
}

// drop drops everything.
func (l *backlog) drop() {
	l.bytes = nil
	l.release()
}

// release gives the buffer back: no bytes may lie in it.
func (l *backlog) release() {
	if l.backing != nil {
		pendings.Put(l.backing)
		l.backing = nil
	}
}

// charge tells use that so many bytes wait here now.
func (l *backlog) charge(now int, use *podUse) {
	if use != nil && now != l.charged {
		use.held.Add(int64(now - l.charged))
		l.charged = now
	}
}
