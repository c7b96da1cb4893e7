package mux

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// An opaque stream that carries much moves to a connection of its own, on which it is the only
// stream: it then neither delays the others nor shares a reader and a TCP window with them.
// The end that opens streams makes the connection and opens a stream there, whose authority
// names the stream that moves (OpenMove). When the other end has accepted that, each end
// finishes what it writes with trailers instead of the end of the stream, and writes on at the
// new place. A receiver reads there when it has read the bytes before the trailers.

// moveAuthority is the form of the authority: a CONNECT has a host and a port.
const moveAuthority = "move-%d-%d:1"

var movedFields = []http2.Field{{Name: "underlane-moved", Value: "1"}}

// Moves names an opaque stream that moves: the port from which the client's agent has made the
// shared connection, and the stream's id there. The zero value is none.
type Moves struct {
	Port uint16
	ID   uint32
}

func (m Moves) String() string { return fmt.Sprintf(moveAuthority, m.Port, m.ID) }

// movesOf parses the authority of a stream that takes over from another one.
func movesOf(fields []http2.Field) (m Moves) {
	for i := range fields {
		if fields[i].Name != ":authority" || !strings.HasPrefix(fields[i].Value, "move-") {
			continue
		}
		if _, err := fmt.Sscanf(fields[i].Value, moveAuthority, &m.Port, &m.ID); err != nil {
			return Moves{}
		}
	}
	return m
}

// move is the place to which a stream moves.
type move struct {
	to    atomic.Pointer[Stream] // where it is read after the peer's trailers; nil: it does not move
	ready atomic.Bool            // the peer has accepted it: it is written there from the next write on

	// The stream's mu guards these.
	out bool // this end has sent its trailers
	in  bool // the peer has
}

// OpenMove opens, on this connection of its own, a stream to which s may move. It is to be
// given to s.MoveTo. It returns nil if s does not move.
func (c *Conn) OpenMove(s *Stream) *Stream {
	raw := s.c.NC.Raw()
	if raw == nil {
		return nil
	}
	what := Moves{Port: raw.Local().Port(), ID: s.id}
	t := c.openWith([]http2.Field{openFields[0], {Name: ":authority", Value: what.String()}})
	if t == nil || !s.setMove(t) {
		return nil
	}
	s.c.Lock()
	s.c.moves++
	s.c.Unlock()
	return t
}

// ManyMoves reports whether so many streams have moved that no further one should be opened
// here: the other end serves a limited number of each connection, those among them that have
// moved.
func (c *Conn) ManyMoves() bool {
	c.Lock()
	defer c.Unlock()
	return c.moves >= MaxStreams/2
}

// Adopt has the stream that t names, of this shared connection, move to t. It reports whether
// there is one. The end that accepts streams calls it; s.Close then closes t.
func (c *Conn) Adopt(t *Stream) bool {
	s, ok := c.open.Get(t.Moves.ID)
	if !ok || !s.setMove(t) {
		return false
	}
	t.Accept()
	s.Moved()
	return true
}

// setMove has s be read at t after the peer's trailers.
func (s *Stream) setMove(t *Stream) bool {
	s.mu.Lock()
	if s.Port == 0 || s.forward.to == nil || s.closed || s.err != nil || s.move.to.Load() != nil {
		s.mu.Unlock()
		return false
	}
	usage := s.usage
	t.writesInTurn = s.writesInTurn
	s.move.to.Store(t)
	s.mu.Unlock()
	t.Charge(usage)
	t.c.Lock()
	t.window.early = windowAfter
	t.c.Unlock()
	return true
}

// Moved has s be written at its new place: the peer has accepted that.
func (s *Stream) Moved() {
	s.mu.Lock()
	s.move.ready.Store(true)
	s.room = true // a writer that waits goes on there
	s.mu.Unlock()
	s.writable.Signal()
	if s.writing.TryLock() { // else the next write does it
		s.writesTo()
		s.writing.Unlock()
	}
}

// Stay ends the move, which the peer has not accepted.
func (s *Stream) Stay() {
	if t := s.move.to.Swap(nil); t != nil {
		_ = t.Reset()
	}
}

// writesTo is the stream at which s is written; nil: s itself. At the first call after Moved it
// ends what was written to s. s.writing is held.
func (s *Stream) writesTo() *Stream {
	if !s.move.ready.Load() {
		return nil
	}
	s.mu.Lock()
	if s.move.out {
		s.mu.Unlock()
		return s.move.to.Load()
	}
	if s.done || s.closed || s.err != nil {
		s.mu.Unlock()
		return nil
	}
	s.move.out = true
	left := s.left()
	s.mu.Unlock()
	s.c.Lock()
	s.c.begin(s)
	_ = s.c.Engine.WriteTrailers(s.id, movedFields)
	s.c.Unlock()
	s.c.Send()
	if left {
		s.c.forget(s.id)
	}
	return s.move.to.Load()
}

// left reports whether nothing is written or read at the old place any more, so that its
// connection does not concern the stream. s.mu is held.
func (s *Stream) left() bool {
	return (s.move.out || s.move.in) && (s.move.out || s.done) && (s.move.in || s.ended)
}
