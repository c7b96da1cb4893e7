package l7proxy

import (
	"runtime/debug"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/request"
)

// A connection needs no goroutine while it carries nothing, if it is opaque, or one of HTTP/1 that
// waits for its next request. What has served it from its beginning then returns, up to the
// listener, and leaves what is to be done at the end to what goes on: request.Rest.

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
func restOf(s *session, on request.Rest) func(over func(defect any, stack []byte)) {
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

// serveRequests has a connection carry requests of HTTP/1. It takes ownership of buf, as the driver
// does.
func serveRequests(s *session, buf *[]byte) (rest request.Rest) {
	served := s.leg("http1")
	defer func() {
		if rest == nil {
			served()
		}
	}()
	if on := s.proxy.h1.Serve(&s.Session, buf); on != nil {
		return restingLeg{on, served}
	}
	return nil
}

// restingLeg is a connection of requests that rests. served is called at its end.
type restingLeg struct {
	on     request.Rest
	served func()
}

// GoOn implements request.Rest.
func (l restingLeg) GoOn(over func(*conn.Defect)) {
	l.on.GoOn(func(defect *conn.Defect) {
		defer func() {
			if what := recover(); what != nil {
				defect = &conn.Defect{What: what, Stack: debug.Stack()}
			}
			over(defect)
		}()
		l.served()
	})
}
