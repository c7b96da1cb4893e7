package mux

import (
	"net"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
)

var _ conn.Forwarder = (*Stream)(nil)

// forward is where the bytes that arrive go, if nothing reads the stream. The stream's mu
// guards it.
type forward struct {
	to   conn.Sink // nil: the stream is read
	busy bool      // a goroutine passes bytes on: the connection's reader, or that of pump
	over bool      // to.End was called, or is about to be; or to.From
	late bool      // to.From is to be called when the peer's answer about the move has come
}

// Forward implements conn.Forwarder. The connection's reader passes on what arrives, as long
// as the sink keeps none of it. While it does, a goroutine waits for the sink, and what
// arrives is held as that of a stream that is read slowly.
func (s *Stream) Forward(to conn.Sink) {
	s.mu.Lock()
	s.forward.to = to
	s.forward.busy = s.unread() > 0 || s.over()
	if s.forward.busy {
		to.Go(func() { s.forward.pump(s, 0) })
	}
	s.mu.Unlock()
	s.c.Send() // the opening of the stream, if that has not gone out
}

// takesNow reports whether the reader is to pass on what has arrived. If so, the caller does
// that. s.mu is held.
func (f *forward) takesNow(s *Stream) bool {
	if f.to == nil || f.busy || f.over || s.closed {
		return false
	}
	f.busy = true
	return true
}

// over reports whether nothing follows the bytes that have arrived. s.mu is held.
func (s *Stream) over() bool { return s.ended || s.move.in || s.closed || s.err != nil }

// tells reports whether the sink is to hear at once that the stream was cut: a reset comes
// after the bytes before it, which a pump may have. complete: both sides had ended before.
// s.mu is held.
func (f *forward) tells(complete bool) bool { return !complete && (f.over || !f.busy) }

// passOn passes on bytes that have arrived. The connection's reader calls it.
func (f *forward) passOn(s *Stream, p []byte, end ending) {
	kept, err := 0, error(nil)
	if len(p) > 0 {
		if kept, err = f.to.Take(p); err != nil || kept == 0 {
			s.consumed(len(p))
		}
	}
	s.mu.Lock()
	s.endsBy(end)
	switch {
	case err != nil:
		s.mu.Unlock()
		f.end(s, err)
	case f.over:
		s.mu.Unlock()
		if kept > 0 {
			s.consumed(len(p))
		}
	case kept > 0:
		f.to.Go(func() { f.pump(s, len(p)) })
		s.mu.Unlock()
	case s.over():
		s.mu.Unlock()
		f.finish(s)
	default:
		f.busy = false
		s.mu.Unlock()
	}
}

// pump passes on what is held, and waits for the sink. kept bytes were taken that the sink
// has kept.
func (f *forward) pump(s *Stream, kept int) {
	var buf *[]byte
	defer func() {
		if buf != nil {
			conn.PutBuffer(buf)
		}
	}()
	for {
		if kept > 0 {
			err := f.to.Drain()
			s.consumed(kept)
			s.c.Send()
			if err != nil {
				f.end(s, err)
				return
			}
		}
		s.mu.Lock()
		if f.over {
			s.mu.Unlock()
			return
		}
		if s.unread() == 0 {
			if s.over() {
				s.mu.Unlock()
				f.finish(s)
				return
			}
			f.busy = false
			s.mu.Unlock()
			return
		}
		if buf == nil {
			buf = conn.GetBuffer()
		}
		n := s.lent.take(*buf)
		if n == 0 {
			n = s.held.Take(*buf)
			s.account()
		}
		s.mu.Unlock()
		waits, err := f.to.Take((*buf)[:n])
		if kept = n; waits > 0 && err == nil {
			conn.PutBuffer(buf) // not while it waits
			buf = nil
			continue
		}
		kept = 0
		s.consumed(n)
		s.c.Send()
		if err != nil {
			f.end(s, err)
			return
		}
	}
}

// finish tells the sink how the stream has ended, after the last bytes, or where it goes on.
func (f *forward) finish(s *Stream) {
	s.mu.Lock()
	ended, closed, err := s.ended, s.closed, s.err
	complete := ended && s.done
	if s.move.in && !closed && err == nil {
		gone := left(s)
		f.goOn(s)
		s.mu.Unlock()
		if gone {
			s.c.forget(s.id)
		}
		return
	}
	s.mu.Unlock()
	if ended {
		f.end(s, nil)
	}
	switch {
	case complete:
	case err != nil:
		f.end(s, err)
	case closed:
		f.end(s, net.ErrClosed)
	}
}

// goOn has the sink read where the stream goes on; not before the peer's answer has been read
// there. s.mu is held.
func (f *forward) goOn(s *Stream) {
	f.busy = false
	if f.late = !s.accepted.Load(); f.late {
		return
	}
	f.over = true
	f.to.From(s.move.to)
}

// end tells the sink, if there is one, that nothing comes any more: see conn.Sink.End.
func (f *forward) end(s *Stream, err error) {
	s.mu.Lock()
	to := f.to
	f.over = to != nil
	s.mu.Unlock()
	if to != nil {
		to.End(err)
	}
}
