package mux

import (
	"sync/atomic"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// Answer is what the peer has said to an opaque stream that this end has opened.
type Answer uint32

// The answers.
const (
	// Unanswered: nothing yet.
	Unanswered Answer = iota
	// Accepted: it serves the stream.
	Accepted
	// Refused: it does not, for a reason that does not concern the connection.
	Refused
	// Lost: it does not, or it is not known, and the connection takes no further stream.
	Lost
)

// answer is the Answer to a stream. done is nil if none is expected.
type answer struct {
	is   atomic.Uint32
	done chan struct{}
}

// give sets the answer, if it is the first.
func (a *answer) give(is Answer) {
	if a.done != nil && a.is.CompareAndSwap(uint32(Unanswered), uint32(is)) {
		close(a.done)
	}
}

// answerOf is what a reset says of a stream that was not answered.
func answerOf(ev *http2.Event) Answer {
	if ev.GoingAway {
		return Lost
	}
	return Refused
}

// Begin sends the opening of a stream at once, instead of with the first bytes. It returns a
// channel that is closed when there is an Answer.
func (s *Stream) Begin() <-chan struct{} {
	s.c.Send()
	return s.answer.done
}

// Answer is what the peer has said to the stream.
func (s *Stream) Answer() Answer { return Answer(s.answer.is.Load()) }

// Accept tells the peer that an opaque stream is served, before any of its bytes.
func (s *Stream) Accept() {
	s.c.Lock()
	s.c.begin(s)
	s.c.Unlock()
	s.c.Send()
}

// Refuse ends a stream that this end does not serve. None of its bytes has been used.
func (s *Stream) Refuse() error { return s.endWith(http2.RefusedStream) }
