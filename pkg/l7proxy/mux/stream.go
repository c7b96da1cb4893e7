package mux

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"golang.org/x/sys/unix"
)

var _ conn.Conn = (*Stream)(nil)

// Stream is a stream of a shared connection, as a connection.
type Stream struct {
	c      *Conn
	id     uint32
	queued bool // it waits for room on the connection; the connection's lock guards it
	// pending is what a Write that waits has not written yet; the connection's lock guards it.
	pending []byte
	wrote   bool // bytes were written; the connection's lock guards it
	short   bool // fewer than there were: the windows are closed; the connection's lock guards it
	opens   bool // this end's head is to be sent with the first bytes; the connection's lock guards it
	// Port is the port of an opaque connection's client, 0 for HTTP/1. The end that opens the
	// stream has named it. It is not changed.
	Port uint16

	retransmits uint32 // see Wire; the connection's lock guards it

	reading, writing sync.Mutex // one Read and one Write at a time
	kept             []byte     // see conn.Conn.Offer; only the goroutine that writes uses it

	mu       sync.Mutex
	readable sync.Cond
	writable sync.Cond

	want   []byte // buffer of a Read that waits; deliver copies into it
	got    int    // bytes that deliver has copied there
	lent   lent   // bytes that have ended an Await
	held   quota.Backlog
	ended  bool   // the peer has ended its side
	done   bool   // this side has
	closed bool   // Close or Reset was called
	err    error  // why the stream was cut
	hangup func() // see OnHangup
	room   bool   // the windows have opened since the last write

	forward forward
	answer  answer
	window  window
	move    move

	accepted atomic.Bool // the peer has accepted that the stream moves
	apart    atomic.Bool // it is written there: move.out

	read, write               deadline
	readsInTurn, writesInTurn rawio.Turns  // see conn.Conn
	usage                     *quota.Usage // the bytes in held are charged to it
}

// errReset: the peer's agent has cut the stream.
var errReset = &net.OpError{Op: "read", Net: "mux", Err: os.NewSyscallError("stream", unix.ECONNRESET)}

// errExcess: far too many bytes of the pod wait, and some of this stream.
var errExcess = mesh.Fail(mesh.ReasonOverload, nil)

func newStream(c *Conn, id uint32) *Stream {
	s := &Stream{c: c, id: id}
	s.readable.L, s.writable.L = &s.mu, &s.mu
	return s
}

// ending says whether the peer's side ends after some bytes.
type ending uint8

const (
	goesOn    ending = iota
	inOrder          // it ends
	elsewhere        // it goes on at the stream's new place
)

func endingOf(ev *http2.Event) ending {
	switch {
	case !ev.EndStream:
		return goesOn
	case ev.Trailers && len(ev.Fields) > 0 && ev.Fields[0].Name == movedFields[0].Name:
		return elsewhere
	}
	return inOrder
}

// endsBy notes an ending. s.mu is held.
func (s *Stream) endsBy(end ending) {
	s.ended = s.ended || end == inOrder
	s.move.in = s.move.in || end == elsewhere
}

// deliver takes bytes that have arrived. The connection's reader calls it.
func (s *Stream) deliver(p []byte, end ending) {
	s.mu.Lock()
	if end == elsewhere && s.move.to == nil { // where it goes on is not known
		s.mu.Unlock()
		s.cutAway()
		return
	}
	if s.forward.takesNow(s) {
		s.mu.Unlock()
		s.forward.passOn(s, p, end)
		return
	}
	taken := 0
	switch {
	case s.closed:
		taken = len(p)
	case s.want != nil:
		taken = copy(s.want, p)
		s.want, s.got = nil, taken
		s.held.Add(p[taken:])
		s.account()
	case s.lent.wanted && len(p) > 0:
		taken = s.lent.fill(p)
		fallthrough
	default:
		s.held.Add(p[taken:])
		s.account()
	}
	s.endsBy(end)
	hangup := s.hangup
	excess := s.held.Len() > 0 && s.err == nil && s.usage.Exhausted()
	s.mu.Unlock()
	if excess {
		s.fail(errExcess)
		s.c.cancel(s.id, http2.Cancel)
		s.forward.end(s, errExcess)
	}
	s.readable.Signal()
	if end == inOrder && hangup != nil {
		hangup()
	}
	if taken > 0 {
		s.consumed(taken)
	}
}

// fail cuts the stream: reads return err after the bytes that arrived before, writes at
// once.
func (s *Stream) fail(err error) { s.failAs(err, Lost) }

func (s *Stream) failAs(err error, answer Answer) {
	s.answer.give(answer)
	s.c.forget(s.id)
	s.mu.Lock()
	if left(s) {
		s.mu.Unlock()
		return
	}
	if s.err == nil {
		s.err = err
	}
	hangup, tell := s.hangup, s.forward.tells(s.ended && s.done)
	s.mu.Unlock()
	s.readable.Signal()
	s.writable.Signal()
	if hangup != nil {
		hangup()
	}
	if tell {
		s.forward.end(s, err)
	}
}

// Resume implements h2conn.Waiter: it writes what a Write that waits has left, as far as the
// windows allow it, and wakes the writer when that is done. Otherwise each time that the connection
// has room for a few streams, the writers of all would wake up, and most of them in vain.
func (s *Stream) Resume(b *h2conn.Batch) {
	if !s.c.goOn(s, b) {
		return
	}
	s.mu.Lock()
	s.room = true
	s.mu.Unlock()
	s.writable.Signal()
}

// Read implements net.Conn.
func (s *Stream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	s.mu.Lock()
	if n := s.lent.take(p); n > 0 {
		s.mu.Unlock()
		return n, nil
	}
	if n := s.held.Take(p); n > 0 {
		s.account()
		s.mu.Unlock()
		s.consumed(n)
		s.c.Send() // the window's update, if there is one
		return n, nil
	}
	if s.Port != 0 { // the server may speak first
		s.mu.Unlock()
		s.c.Send() // the opening of the stream, if that has not gone out
		s.mu.Lock()
	}
	turns := s.readsInTurn
	defer func() {
		s.mu.Unlock()
		if turns != nil {
			turns.Resume()
		}
	}()
	for {
		switch {
		case s.got > 0:
			n := s.got
			s.got = 0
			return n, nil
		case s.closed:
			return 0, net.ErrClosed
		case s.ended:
			return 0, io.EOF
		case s.err != nil:
			return 0, s.err
		case s.read.passed():
			s.want = nil
			return 0, os.ErrDeadlineExceeded
		}
		s.want = p
		if turns != nil {
			turns.Pause()
		}
		s.readable.Wait()
		if s.got == 0 {
			s.want = nil
		}
	}
}

// Write implements net.Conn. It waits while the windows are closed.
func (s *Stream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.endWrite()
	written := 0
	for {
		if to := s.writesTo(); to != nil {
			n, err := to.Write(p[written:])
			return written + n, err
		}
		n, err := s.writeNow(p[written:], true)
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
		if written = len(p) - s.awaitRoom(); written == len(p) {
			return written, nil
		}
	}
}

// writeNow writes as much of p as the windows allow now. waits says that awaitRoom follows if
// that is not all.
func (s *Stream) writeNow(p []byte, waits bool) (int, error) {
	s.mu.Lock()
	err := s.mayNotWrite()
	s.room = false
	s.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := s.c.offer(s, p, waits)
	if err != nil {
		err = causeOf(s, err)
	}
	return n, err
}

// awaitRoom waits until what writeNow has left is written, more can be written, or nothing can.
// It returns how many bytes are still left.
func (s *Stream) awaitRoom() (left int) {
	if s.writesInTurn != nil {
		s.writesInTurn.Pause()
		defer s.writesInTurn.Resume()
	}
	s.mu.Lock()
	for !s.room && s.mayNotWrite() == nil {
		s.writable.Wait()
	}
	s.mu.Unlock()
	s.c.Lock()
	defer s.c.Unlock()
	left = len(s.pending)
	s.pending = nil
	return left
}

func (s *Stream) mayNotWrite() error {
	switch {
	case s.closed || s.done:
		return net.ErrClosed
	case s.err != nil:
		return s.err
	case s.write.passed():
		return os.ErrDeadlineExceeded
	}
	return nil
}

// causeOf is the error of a write after the engine has closed the stream.
func causeOf(s *Stream, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	return errors.Join(errReset, err)
}

// CloseWrite implements conn.Conn.
func (s *Stream) CloseWrite() error {
	s.mu.Lock()
	was := s.done || s.closed
	s.done = true
	out := s.move.out
	s.mu.Unlock()
	if was {
		return nil
	}
	if out {
		return s.move.to.CloseWrite()
	}
	return s.c.finishWriting(s)
}

// Close ends the stream in order. If bytes have not been read, it cuts the stream.
func (s *Stream) Close() error { return s.endWith(http2.NoError) }

// Reset cuts the stream.
func (s *Stream) Reset() error { return s.endWith(http2.Cancel) }

// endWith ends the stream in order, or cuts it with a code.
func (s *Stream) endWith(code http2.ErrCode) error {
	cut := code != http2.NoError
	s.answer.give(Lost)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	unread, untaken := s.held.Len(), len(s.lent.bytes)
	s.held.Drop()
	s.lent.drop()
	s.account()
	s.narrow()
	done, ended, gone := s.done, s.ended, s.err != nil
	tell, moves := cut && !(done && ended) || !s.forward.over, s.move.to != nil
	s.read.stop()
	s.write.stop()
	s.mu.Unlock()
	s.readable.Signal()
	s.writable.Signal()
	s.c.forget(s.id)
	if tell {
		defer s.forward.end(s, net.ErrClosed)
	}
	if moves {
		defer s.move.end(cut || unread+untaken > 0)
	}
	if unread > 0 { // also if the stream is gone: all streams share the connection's window
		s.c.Consume(s.id, unread)
	}
	switch {
	case gone:
		s.c.Send()
	case cut:
		s.c.cancel(s.id, code)
	case unread+untaken > 0:
		s.c.cancel(s.id, http2.Cancel)
	case !done || !ended:
		s.c.leave(s, !done)
	default:
		s.c.Send()
	}
	return nil
}
