package mux

// HungUp reports whether the peer has ended its side, or cut the stream.
func (s *Stream) HungUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil || s.ended || s.closed
}

// Pending is how many bytes wait to be read.
func (s *Stream) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held.Len()
}
