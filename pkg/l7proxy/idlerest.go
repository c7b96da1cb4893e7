package l7proxy

import (
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/opaque"
)

// An opaque connection needs no goroutine while it carries nothing. What has served it from its
// beginning then returns, up to the listener, and leaves what is to be done at the end to what goes
// on: opaque.Carried.

// endUnless ends a session, unless it goes on: rest is not nil.
func endUnless(s *session, rest *func(func(any, []byte))) {
	if *rest == nil {
		s.end()
	}
}

// end ends what serves a client's connection.
func (s *session) end() {
	if s.secured {
		s.Client.Close()
	}
	s.Quota.Leave()
	s.Task.Pause()
	s.raw.Close()
}

// restOf returns what ServeOutbound does of a session that goes on; nil: it does not.
func restOf(s *session, on *opaque.Carried) func(over func(defect any, stack []byte)) {
	if on == nil {
		return nil
	}
	return func(over func(any, []byte)) {
		on.GoOn(func(defect *conn.Defect) {
			s.end()
			if defect == nil {
				over(nil, nil)
			} else {
				over(defect.What, defect.Stack)
			}
		})
	}
}
