package script

import (
	"fmt"
)

// head waits for the head of a response.
func (e *end) head(s *step) error {
	h, st, err := e.named(s)
	if err != nil {
		return err
	}
	h.wait(e.deadline(), func() bool { return len(st.heads) > 0 || st.over() || h.err != nil })
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(st.heads) > 0 {
		e.note("%s: head %s", s.word(0), st.heads[0])
		return nil
	}
	e.note("%s: head %s", s.word(0), h.outcome(st))
	return nil
}

// body waits for the end of a stream.
func (e *end) body(s *step) error {
	h, st, err := e.named(s)
	if err != nil {
		return err
	}
	h.wait(e.deadline(), func() bool { return st.over() || h.err != nil })
	h.mu.Lock()
	defer h.mu.Unlock()
	data := shown(st.data)
	if st.own {
		data = "<the mesh's>"
	}
	e.note("%s: body %s, %s", s.word(0), data, h.outcome(st))
	return nil
}

// outcome tells how a stream ended. Call it under the lock.
func (h *h2) outcome(st *stream) string {
	switch {
	case st.rst != "" && st.ended:
		return "end" // RST_STREAM with NO_ERROR behind the end is allowed
	case st.rst != "":
		return "rst " + st.rst
	case st.ended && len(st.heads) > 1:
		return "trailers " + st.heads[len(st.heads)-1]
	case st.ended:
		return "end"
	case h.err != nil:
		return h.ending()
	}
	return "time-out"
}

func (e *end) got(s *step) error {
	h, st, err := e.named(s)
	if err != nil {
		return err
	}
	n, err := s.number(1)
	if err != nil {
		return err
	}
	h.wait(e.deadline(), func() bool { return len(st.data) >= n || st.over() || h.err != nil })
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(st.data) < n {
		e.note("%s: got %d bytes, %s", s.word(0), len(st.data), h.outcome(st))
		return errEnded
	}
	e.note("%s: got %s", s.word(0), shown(st.data[:n]))
	return nil
}

// ended waits for the end of the connection.
func (e *end) ended(*step) error {
	h := e.conn.h2
	if h == nil {
		return fmt.Errorf("ended before h2")
	}
	h.wait(e.deadline(), func() bool { return h.err != nil })
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		e.note("ended: time-out")
		return nil
	}
	e.note("ended: %s", h.ending())
	return nil
}
