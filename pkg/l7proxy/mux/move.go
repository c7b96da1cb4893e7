package mux

import (
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
)

// An opaque stream that carries much moves to a connection of its own (mtls.ALPNMove), which has
// no frames: it then costs what a dedicated connection costs, and does not delay the others. The
// end that opens streams makes the connection, and names the stream there by Moves. The other end
// answers with one byte, moveAccepted. Each end then finishes what it writes to the stream with
// trailers instead of the end of the stream, and writes on at the new place. It reads there when
// it has read the bytes before the peer's trailers.
//
// Each direction moves by itself. A side that has ended before the move does not move: it sends
// no trailers, and nothing at the new place.

const (
	movesSize    = 6
	moveAccepted = 1
	// moveTime is how long the peer may take to answer. The stream goes on meanwhile.
	moveTime = time.Minute
)

var movedFields = []http2.Field{{Name: "underlane-moved", Value: "1"}}

// Moves names an opaque stream that moves: the port from which the client's agent has made the
// shared connection, and the stream's id there.
type Moves struct {
	Port uint16
	ID   uint32
}

func (m Moves) bytes() []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, m.Port), m.ID)
}

// ReadMoves reads which stream moves to a connection.
func ReadMoves(r io.Reader) (Moves, error) {
	var b [movesSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Moves{}, err
	}
	return Moves{binary.BigEndian.Uint16(b[:]), binary.BigEndian.Uint32(b[2:])}, nil
}

// move is the place to which a stream moves. The stream's mu guards it; to is not changed after
// out is set, and gone is not changed.
type move struct {
	to   conn.Conn     // nil: the stream does not move
	out  bool          // this end has sent its trailers, or is about to: it writes to to
	in   bool          // the peer has sent its trailers: it is read from to
	gone chan struct{} // closed with the stream; nil: nothing waits for that
}

// errMove: the peer has not accepted that a stream moves.
var errMove = errors.New("the peer's agent did not accept that a stream moves")

// MoveTo has a stream go on at a new connection to the peer, and waits for the peer's answer. If
// the stream does not move, MoveTo closes the connection and returns why; otherwise the stream
// does. Only the end that opens streams calls it, at most once.
func (s *Stream) MoveTo(to conn.Conn) error {
	raw := s.c.NC.Raw()
	if raw == nil || !s.setMove(to, nil) {
		to.Close()
		return errMove
	}
	s.c.Lock()
	s.c.moves++
	s.c.Unlock()
	var answer [1]byte
	_ = to.SetDeadline(time.Now().Add(moveTime))
	_, err := to.Write(Moves{Port: raw.Local().Port(), ID: s.id}.bytes())
	if err == nil {
		_, err = io.ReadFull(to, answer[:])
	}
	if err == nil && answer[0] != moveAccepted {
		err = errMove
	}
	_ = to.SetDeadline(time.Time{})
	if err != nil {
		s.stay()
		return err
	}
	s.moved()
	return nil
}

// ManyMoves reports whether so many streams have moved that no further one should be opened
// here: the other end serves a limited number of each connection, those among them that have
// moved.
func (c *Conn) ManyMoves() bool {
	c.Lock()
	defer c.Unlock()
	return c.moves >= MaxStreams/2
}

// Adopt has a stream of this shared connection go on at a connection that its peer has made. The
// end that accepts streams calls it. gone is closed when the stream has closed the connection;
// nil: there is no such stream.
func (c *Conn) Adopt(id uint32, to conn.Conn) (gone <-chan struct{}) {
	s, ok := c.open.Get(id)
	if !ok {
		return nil
	}
	over := make(chan struct{})
	if !s.setMove(to, over) {
		return nil
	}
	if _, err := to.Write([]byte{moveAccepted}); err != nil {
		s.stay()
		return nil
	}
	s.moved()
	return over
}

// setMove sets where the stream goes on.
func (s *Stream) setMove(to conn.Conn, gone chan struct{}) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Port == 0 || s.forward.to == nil || s.closed || s.err != nil || s.move.to != nil {
		return false
	}
	s.move.to, s.move.gone = to, gone
	return true
}

// moved has s be written at its new place: the peer has accepted that.
func (s *Stream) moved() {
	s.mu.Lock()
	s.accepted.Store(true)
	s.room = true // a writer that waits goes on there
	if s.forward.late && !s.forward.over {
		s.forward.goOn(s)
	}
	s.mu.Unlock()
	s.writable.Signal()
	if s.writing.TryLock() { // else the writer does it
		s.endWrite()
	}
}

// endWrite gives s.writing back. If the stream is to move, what was written to it ends.
func (s *Stream) endWrite() {
	s.writing.Unlock()
	if s.accepted.Load() && !s.apart.Load() && s.writing.TryLock() {
		s.writesTo()
		s.writing.Unlock()
	}
}

// stay ends the move, which the peer has not accepted. If it has, and its answer was lost, the
// stream is cut: what follows the peer's trailers is lost, too.
func (s *Stream) stay() {
	s.mu.Lock()
	to, lost := s.move.to, s.move.in
	if !s.closed {
		s.move.to = nil
	}
	s.mu.Unlock()
	_ = to.Reset()
	if lost {
		s.cutAway()
	}
}

// cutAway cuts a stream that goes on at a place that is not known.
func (s *Stream) cutAway() {
	s.fail(errReset)
	s.c.cancel(s.id, http2.Cancel)
}

// writesTo is the connection to which s is written; nil: s itself. At the first call after moved
// it ends what was written to s. s.writing is held.
func (s *Stream) writesTo() conn.Conn {
	if s.apart.Load() {
		return s.move.to
	}
	if !s.accepted.Load() {
		return nil
	}
	s.mu.Lock()
	to := s.move.to
	if s.done || s.closed || s.err != nil {
		s.mu.Unlock()
		return nil
	}
	to.WritesInTurn(s.writesInTurn)
	s.move.out = true
	s.apart.Store(true)
	gone := left(s)
	s.mu.Unlock()
	s.c.Lock()
	s.c.begin(s)
	_ = s.c.Engine.WriteTrailers(s.id, movedFields)
	s.c.Unlock()
	s.c.Send()
	if gone {
		s.c.forget(s.id)
	}
	return to
}

// end closes the new connection with the stream, or cuts it.
func (m *move) end(cut bool) {
	if cut {
		_ = m.to.Reset()
	} else {
		m.to.Close()
	}
	if m.gone != nil {
		close(m.gone)
	}
}

// left reports whether nothing is written or read at the old place any more, so that its
// connection does not concern the stream. s.mu is held.
func left(s *Stream) bool {
	return (s.move.out || s.move.in) && (s.move.out || s.done) && (s.move.in || s.ended)
}
