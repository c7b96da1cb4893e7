// Package conn has the byte streams that the proxy moves bytes between: plain TCP,
// mTLS between agents, and (by package mux) streams of a shared connection. To the
// drivers of the protocols they are all alike.
package conn

import (
	"net"

	"github.com/underlane/underlane/pkg/rawio"
)

// Conn is a byte stream. At most one goroutine reads and one writes at a time.
type Conn interface {
	net.Conn
	// CloseWrite ends this side in order; reading goes on.
	CloseWrite() error
	// Reset closes the connection so that the peer sees that it was cut.
	Reset() error
	// Idle reports whether the peer has neither ended its side nor sent anything
	// that was not read.
	Idle() bool
	// PeerClosed reports whether the peer has ended its side, and everything that it
	// sent was read; and whether it is gone: nothing reaches it any more.
	PeerClosed() (ended, gone bool)
	// OnHangup has f called soon after the peer has ended its side or is gone, also
	// where nothing reads. f must not wait. It is called once at most.
	OnHangup(h *rawio.Hangups, f func()) error
	// ReadMore reads what is there already, after a Read. It does not wait.
	ReadMore(p []byte) (int, error)
	// ReadAhead makes reads below TLS take in what the network has, rather than a
	// record. What was read ahead is lost when it is turned off.
	ReadAhead(on bool)
	// QuickAck acknowledges what was received. It does nothing where the peer is
	// an agent: agents write without Nagle's algorithm.
	QuickAck()
	// WriteFailure is the likely cause of err, from the first write.
	WriteFailure(err error) error
	// Raw is the TCP connection below; nil for a stream of a shared connection.
	Raw() *rawio.Conn
}

// Plain is a TCP connection without TLS.
type Plain struct{ *rawio.Conn }

// Reset implements Conn.
func (c Plain) Reset() error {
	err := c.Conn.Reset()
	c.Close()
	return err
}

// PeerClosed implements Conn.
func (c Plain) PeerClosed() (ended, gone bool) {
	ended, gone = c.PeerState()
	return ended && (gone || c.Pending() == 0), gone
}

// ReadMore implements Conn: Read has taken in what there was.
func (c Plain) ReadMore([]byte) (int, error) { return 0, nil }

// ReadAhead implements Conn.
func (c Plain) ReadAhead(bool) {}

// WriteFailure implements Conn.
func (c Plain) WriteFailure(err error) error { return err }

// Raw implements Conn.
func (c Plain) Raw() *rawio.Conn { return c.Conn }
