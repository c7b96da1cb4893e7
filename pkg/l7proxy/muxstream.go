package l7proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

var _ Conn = (*muxStream)(nil)

// muxStream is a stream of a shared connection, as a connection.
type muxStream struct {
	m  *mux
	id uint32

	reading, writing sync.Mutex // one Read and one Write at a time

	mu       sync.Mutex
	readable sync.Cond
	writable sync.Cond

	want   []byte // a Read that waits: the bytes go straight there
	got    int    // what it got
	held   backlog
	ended  bool  // the peer has ended its side
	done   bool  // this side has
	closed bool  // Close or Reset was called
	err    error // why the stream was cut
	room   bool  // the windows have opened since the last write

	read, write deadline
	use         *podUse // what waits in held is charged to
}

// errMuxReset: the peer's agent has cut the stream.
var errMuxReset = &net.OpError{Op: "read", Net: "mux", Err: os.NewSyscallError("stream", unix.ECONNRESET)}

func newMuxStream(m *mux, id uint32) *muxStream {
	s := &muxStream{m: m, id: id}
	s.readable.L, s.writable.L = &s.mu, &s.mu
	return s
}

// deliver takes what came, from the connection's reader.
func (s *muxStream) deliver(p []byte, end bool) {
	s.mu.Lock()
	taken := 0
	switch {
	case s.closed:
		taken = len(p)
	case s.want != nil:
		taken = copy(s.want, p)
		s.want, s.got = nil, taken
		fallthrough
	default:
		s.held.add(p[taken:])
		s.account()
	}
	s.ended = s.ended || end
	s.mu.Unlock()
	s.readable.Signal()
	if taken > 0 {
		s.m.consume(s.id, taken)
	}
}

// fail cuts the stream: both ways end with err, after what came before.
func (s *muxStream) fail(err error) {
	s.m.forget(s.id)
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	s.mu.Unlock()
	s.readable.Signal()
	s.writable.Signal()
}

// mayWrite lets a writer go on.
func (s *muxStream) mayWrite() {
	s.mu.Lock()
	s.room = true
	s.mu.Unlock()
	s.writable.Signal()
}

// Read implements net.Conn.
func (s *muxStream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	s.mu.Lock()
	if n := s.held.take(p); n > 0 {
		s.account()
		s.mu.Unlock()
		s.m.consume(s.id, n)
		s.m.send() // the window's update, if there is one
		return n, nil
	}
	defer s.mu.Unlock()
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
		s.readable.Wait()
		if s.got == 0 {
			s.want = nil
		}
	}
}

// Write implements net.Conn. It waits while the windows are closed.
func (s *muxStream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	written := 0
	for {
		s.mu.Lock()
		err := s.mayNotWrite()
		s.room = false
		s.mu.Unlock()
		if err != nil {
			return written, err
		}
		n, err := s.m.offer(s, p[written:])
		written += n
		if err != nil {
			return written, s.cause(err)
		}
		if written == len(p) {
			return written, nil
		}
		s.mu.Lock()
		for !s.room && s.mayNotWrite() == nil {
			s.writable.Wait()
		}
		s.mu.Unlock()
	}
}

func (s *muxStream) mayNotWrite() error {
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

// cause is why the engine does not know the stream any more.
func (s *muxStream) cause(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	return errors.Join(errMuxReset, err)
}

// CloseWrite implements Conn.
func (s *muxStream) CloseWrite() error {
	s.mu.Lock()
	was := s.done || s.closed
	s.done = true
	s.mu.Unlock()
	if was {
		return nil
	}
	return s.m.finishWriting(s.id)
}

// Close ends the stream in order, where the peer has nothing more to say.
func (s *muxStream) Close() error { return s.end(false) }

// Reset cuts the stream.
func (s *muxStream) Reset() error { return s.end(true) }

func (s *muxStream) end(cut bool) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	unread := s.held.len()
	s.held.drop()
	s.account()
	done, ended, gone := s.done, s.ended, s.err != nil
	s.read.stop()
	s.write.stop()
	s.mu.Unlock()
	s.readable.Signal()
	s.writable.Signal()
	s.m.forget(s.id)
	if unread > 0 { // of a stream that is gone as well: the connection's window is all streams'
		s.m.consume(s.id, unread)
	}
	switch {
	case gone:
		s.m.send()
	case cut || unread > 0:
		s.m.cancel(s.id)
	case !done || !ended:
		s.m.leave(s.id, !done)
	default:
		s.m.send()
	}
	return nil
}

// Idle reports whether the stream is alive with nothing to read.
func (s *muxStream) Idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err == nil && !s.ended && !s.closed && s.held.len() == 0
}

// HungUp reports whether the peer has ended its side, or cut the stream.
func (s *muxStream) HungUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil || s.ended || s.closed
}

// Pending is how many bytes wait to be read.
func (s *muxStream) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held.len()
}

// charge has what waits in the stream counted as use's.
func (s *muxStream) charge(use *podUse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held.charge(0, s.use)
	s.use = use
	s.account()
}

func (s *muxStream) account() { s.held.charge(s.held.len(), s.use) }

// LocalAddr implements net.Conn.
func (s *muxStream) LocalAddr() net.Addr { return s.m.nc.LocalAddr() }

// RemoteAddr implements net.Conn.
func (s *muxStream) RemoteAddr() net.Addr { return s.m.nc.RemoteAddr() }

// SetDeadline implements net.Conn.
func (s *muxStream) SetDeadline(t time.Time) error {
	_ = s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (s *muxStream) SetReadDeadline(t time.Time) error {
	s.set(&s.read, &s.readable, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (s *muxStream) SetWriteDeadline(t time.Time) error {
	s.set(&s.write, &s.writable, t)
	return nil
}

func (s *muxStream) set(d *deadline, waiter *sync.Cond, t time.Time) {
	s.mu.Lock()
	d.stop()
	d.at = t
	if !t.IsZero() && !s.closed {
		d.timer = time.AfterFunc(time.Until(t), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			waiter.Signal()
		})
	}
	s.mu.Unlock()
	waiter.Signal()
}

// deadline of reads or writes.
type deadline struct {
	at    time.Time // zero: none
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
