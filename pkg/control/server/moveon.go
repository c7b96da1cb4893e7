package server

// MoveOn asks the agents of up to n streams to connect again, which may lead them to another
// replica, and returns how many it has asked.
func (s *Server) MoveOn(n int) int { return s.streams.moveOn(n) }

// moveOn marks up to n streams.
func (o *fanout) moveOn(n int) (asked int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for f := range o.everyone() { // in no particular order
		if asked >= n {
			return asked
		}
		if f.leaves.CompareAndSwap(false, true) {
			asked++
			f.look()
		}
	}
	return asked
}
