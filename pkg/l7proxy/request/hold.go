package request

import "time"

// holdLook is how often a client that waits is looked at.
const holdLook = 250 * time.Millisecond

// Hold waits before the client is read, or until it is gone.
func (s *Session) Hold(d time.Duration) {
	s.Task.Pause() // the first read resumes it
	for ; d > 0; d -= holdLook {
		time.Sleep(min(d, holdLook))
		if _, gone := s.Client.PeerClosed(); gone {
			return
		}
	}
}
