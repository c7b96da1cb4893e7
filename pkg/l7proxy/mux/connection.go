package mux

import (
	"crypto/tls"
	"net"

	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/rawio"
)

// What conn.Conn wants besides reading and writing.

// Idle reports whether the stream is open and has nothing to read.
func (s *Stream) Idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err == nil && !s.ended && !s.closed && s.unread() == 0
}

// PeerClosed implements conn.Conn.
func (s *Stream) PeerClosed() (ended, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gone = s.err != nil || s.closed
	return gone || s.ended && s.unread() == 0, gone
}

// Cut implements conn.Conn. The peer says which end it is.
func (s *Stream) Cut() bool { return false }

// OnHangup implements conn.Conn: the connection's reader makes the call.
func (s *Stream) OnHangup(_ *rawio.Hangups, f func()) error {
	s.mu.Lock()
	s.hangup = f
	gone := s.ended || s.err != nil
	s.mu.Unlock()
	if gone {
		f()
	}
	return nil
}

// ReadMore implements conn.Conn: Read has taken in what there was.
func (s *Stream) ReadMore([]byte) (int, error) { return 0, nil }

// ReadNow implements conn.Conn.
func (s *Stream) ReadNow(p []byte) (n int, err error) {
	s.mu.Lock()
	unread := s.unread()
	s.mu.Unlock()
	if unread == 0 {
		return 0, nil
	}
	return s.Read(p)
}

// ReadAhead implements conn.Conn.
func (s *Stream) ReadAhead(bool) {}

// QuickAck implements conn.Conn.
func (s *Stream) QuickAck() {}

// WriteFailure implements conn.Conn.
func (s *Stream) WriteFailure(err error) error { return err }

// ReadsInTurn implements conn.Conn.
func (s *Stream) ReadsInTurn(turns rawio.Turns) { s.readsInTurn = turns }

// WritesInTurn implements conn.Conn.
func (s *Stream) WritesInTurn(turns rawio.Turns) { s.writesInTurn = turns }

// Raw implements conn.Conn. It is nil, because streams share the TCP connection.
func (s *Stream) Raw() *rawio.Conn { return nil }

// ConnectionState implements conn.Conn.
func (s *Stream) ConnectionState() tls.ConnectionState { return tls.ConnectionState{} }

// Charge charges the bytes that wait in the stream to usage.
func (s *Stream) Charge(usage *quota.Usage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held.Charge(0, s.usage)
	s.narrow()
	s.usage = usage
	s.account()
}

func (s *Stream) account() { s.held.Charge(s.held.Size(), s.usage) }

// LocalAddr implements net.Conn.
func (s *Stream) LocalAddr() net.Addr { return s.c.NC.LocalAddr() }

// RemoteAddr implements net.Conn.
func (s *Stream) RemoteAddr() net.Addr { return s.c.NC.RemoteAddr() }
