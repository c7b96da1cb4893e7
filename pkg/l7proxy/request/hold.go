package request

import (
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
)

// Hold waits before the client is read, or until it is gone.
func (s *Session) Hold(d time.Duration) {
	s.Task.Pause() // the first read resumes it
	conn.Hold(s.Client, d)
}
