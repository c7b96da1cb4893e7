package mux

import "bytes"

// Offer implements conn.Conn.
func (s *Stream) Offer(p []byte) (kept int, err error) {
	s.writing.Lock()
	defer s.endWrite()
	if to := s.writesTo(); to != nil {
		return to.Offer(p)
	}
	n, err := s.writeNow(p, false)
	if n < len(p) && err == nil {
		s.kept = bytes.Clone(p[n:])
	}
	return len(s.kept), err
}

// Yield implements conn.Conn.
func (s *Stream) Yield() (held int) { return 0 }

// Flush implements conn.Conn.
func (s *Stream) Flush() error {
	if len(s.kept) == 0 {
		s.writing.Lock()
		to := s.writesTo()
		s.writing.Unlock()
		if to == nil {
			return nil
		}
		return to.Flush()
	}
	n, err := s.Write(s.kept)
	if s.kept = s.kept[n:]; len(s.kept) == 0 {
		s.kept = nil
	}
	return err
}
