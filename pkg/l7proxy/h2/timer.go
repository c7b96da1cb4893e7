package h2

import (
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
)

// timer calls a function for a stream after a time. Most timers are stopped before, and go
// back to a pool.
type timer struct {
	timer  *time.Timer
	stream *stream
	turn   int32
	do     func(*stream, *h2conn.Batch)
}

// wholeStream is the turn of a timer that concerns all attempts.
const wholeStream int32 = -1

var timers = sync.Pool{New: func() any { return new(timer) }}

// after calls do in d, with st.mu held, unless the stream or the attempt of that turn has
// ended by then.
func (st *base) after(d time.Duration, turn int32, do func(*stream, *h2conn.Batch)) *timer {
	t := timers.Get().(*timer)
	t.stream, t.turn, t.do = st.whole(), turn, do
	if t.timer == nil {
		t.timer = time.AfterFunc(d, t.fire)
	} else {
		t.timer.Reset(d)
	}
	return t
}

func (t *timer) fire() {
	var b h2conn.Batch
	st := t.stream
	st.mu.Lock()
	if !st.ended && (t.turn == wholeStream || t.turn == st.turn) {
		t.do(st, &b)
	}
	st.mu.Unlock()
	b.Flush()
}

// stopTimer stops the timer at p, if there is one.
func stopTimer(p **timer) {
	t := *p
	*p = nil
	if t != nil && t.timer.Stop() { // else fire has begun, and still uses t
		t.stream, t.do = nil, nil
		timers.Put(t)
	}
}
