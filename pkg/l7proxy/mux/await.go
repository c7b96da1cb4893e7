package mux

import "github.com/underlane/underlane/pkg/l7proxy/conn"

// lent has the bytes that arrive while Await waits, so that the stream holds a buffer only
// from then on. The stream's mu guards it.
type lent struct {
	wanted bool // Await waits
	buf    *[]byte
	bytes  []byte // a part of buf
}

// fill takes as much of p as a buffer has room for.
func (l *lent) fill(p []byte) int {
	l.wanted = false
	l.buf = conn.GetBuffer()
	n := copy(*l.buf, p)
	l.bytes = (*l.buf)[:n]
	return n
}

// take moves bytes into p.
func (l *lent) take(p []byte) int {
	n := copy(p, l.bytes)
	if l.bytes = l.bytes[n:]; len(l.bytes) == 0 {
		l.drop()
	}
	return n
}

// give passes the buffer on, if all that has come is at its start.
func (l *lent) give() (buf *[]byte, n int) {
	if l.buf == nil || &l.bytes[0] != &(*l.buf)[0] {
		return nil, 0
	}
	buf, n = l.buf, len(l.bytes)
	l.buf, l.bytes = nil, nil
	return buf, n
}

func (l *lent) drop() {
	if l.buf != nil {
		conn.PutBuffer(l.buf)
	}
	l.buf, l.bytes = nil, nil
}

// unread is the number of bytes that have arrived and were not read. s.mu is held.
func (s *Stream) unread() int { return len(s.lent.bytes) + s.held.Len() }

// Await implements conn.Conn. What ends the wait other than bytes is told by the next Read.
func (s *Stream) Await() error {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.mu.Lock()
	turns, waited := s.readsInTurn, false
	for s.unread() == 0 && !s.closed && !s.ended && s.err == nil && !s.read.passed() {
		s.lent.wanted = true
		if turns != nil {
			turns.Pause()
		}
		waited = true
		s.readable.Wait()
	}
	s.lent.wanted = false
	s.mu.Unlock()
	if waited && turns != nil {
		turns.Resume()
	}
	return nil
}

// Lent implements conn.Conn.
func (s *Stream) Lent() (buf *[]byte, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lent.give()
}
