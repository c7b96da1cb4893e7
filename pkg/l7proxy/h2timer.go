package l7proxy

import (
	"sync"
	"time"
)

// h2timer has something done with a stream after a while. Most are stopped
// before, and used again.
type h2timer struct {
	timer   *time.Timer
	stream  *h2stream
	attempt int32
	do      func(*h2stream, *h2batch)
}

// wholeStream stands for any attempt.
const wholeStream int32 = -1

var h2timers = sync.Pool{New: func() any { return new(h2timer) }}

// after has do called in d with st.mu held, unless the stream or that attempt is
// over by then.
func (st *h2stream) after(d time.Duration, attempt int32, do func(*h2stream, *h2batch)) *h2timer {
	t := h2timers.Get().(*h2timer)
	t.stream, t.attempt, t.do = st, attempt, do
	if t.timer == nil {
		t.timer = time.AfterFunc(d, t.fire)
	} else {
		t.timer.Reset(d)
	}
	return t
}

func (t *h2timer) fire() {
	var b h2batch
	st := t.stream
	st.mu.Lock()
	if !st.ended && (t.attempt == wholeStream || t.attempt == st.attempt) {
		t.do(st, &b)
	}
	st.mu.Unlock()
	b.flush()
}

// stopTimer stops the timer at p, if there is one.
func stopTimer(p **h2timer) {
	t := *p
	*p = nil
	if t != nil && t.timer.Stop() { // else fire runs, or ran: t stays its own
		t.stream, t.do = nil, nil
		h2timers.Put(t)
	}
}
