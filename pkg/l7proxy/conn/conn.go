// Package conn has the byte streams that the proxy copies bytes between: plain TCP, mTLS
// between agents, and (in package mux) streams of a shared connection. The drivers treat
// all of them alike.
package conn

import (
	"crypto/tls"
	"net"

	"github.com/underlane/underlane/pkg/rawio"
)

// Conn is a byte stream. At most one goroutine reads and one writes at a time.
type Conn interface {
	net.Conn
	// CloseWrite ends this side of the stream in an orderly way. Reads are still possible.
	CloseWrite() error
	// Reset closes the connection in such a way that the peer sees that it was cut.
	Reset() error
	// Idle reports whether the peer has not ended its side and all bytes that it sent
	// were read.
	Idle() bool
	// PeerClosed reports whether the peer has ended its side and all bytes that it sent
	// were read (ended), and whether no bytes reach the peer any more (gone).
	PeerClosed() (ended, gone bool)
	// Cut reports whether the peer's side was cut, after Read has returned io.EOF. A reset
	// reads like an orderly end if a write has met it first.
	Cut() bool
	// OnHangup has f called soon after the peer has ended its side or is gone, also
	// where nothing reads. f must not wait. It is called once at most.
	OnHangup(h *rawio.Hangups, f func()) error
	// ReadMore reads further bytes that have arrived already, after a Read. It does not
	// wait.
	ReadMore(p []byte) (int, error)
	// ReadNow is a Read that does not wait: n is 0 without an error if nothing has arrived. It
	// needs system calls of its own.
	ReadNow(p []byte) (n int, err error)
	// Await waits until there is something to read, if the connection can do that without a
	// buffer. Otherwise it returns nil at once. After an error nothing can be read.
	Await() error
	// Lent returns the bytes that have ended the last Await, if they came in a buffer, and
	// passes the buffer to the caller: they are the first n. n is 0 if there are none. A Read
	// instead returns them likewise.
	Lent() (buf *[]byte, n int)
	// ReadAhead sets whether the reads below TLS take all bytes that have arrived, rather
	// than one record. Bytes that were read ahead are lost when it is turned off.
	ReadAhead(on bool)
	// Yield gives back the buffer of ReadAhead until the next Read. It returns the number of
	// bytes that were read ahead and still wait.
	Yield() (held int)
	// QuickAck acknowledges received bytes at once. It does nothing if the peer is an
	// agent, because agents do not use Nagle's algorithm.
	QuickAck()
	// WriteFailure returns the likely cause of err, the error of the first write.
	WriteFailure(err error) error
	// ReadsInTurn makes each Read that has waited return only when turns lets it go on. nil:
	// at once. The goroutine that reads calls it.
	ReadsInTurn(turns rawio.Turns)
	// WritesInTurn is ReadsInTurn for Write.
	WritesInTurn(turns rawio.Turns)
	// Offer is a Write that does not wait, so that the caller needs no buffer while the peer
	// is slow. The connection keeps a copy of the bytes that cannot be sent now; kept is the
	// size of that copy. If it is not 0, the caller calls Flush before it writes again or
	// ends its side.
	Offer(p []byte) (kept int, err error)
	// Flush waits until the bytes that Offer has kept are sent.
	Flush() error
	// Raw returns the TCP connection below; nil for a stream of a shared connection.
	Raw() *rawio.Conn
	// ConnectionState returns what the TLS handshake has found. Without TLS of its own, as a
	// stream of a shared connection is, HandshakeComplete is false.
	ConnectionState() tls.ConnectionState
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

// Lent implements Conn. It returns nothing, because the kernel has the bytes.
func (c Plain) Lent() (buf *[]byte, n int) { return nil, 0 }

// ReadMore implements Conn. It returns nothing, because Read has returned all bytes that
// had arrived.
func (c Plain) ReadMore([]byte) (int, error) { return 0, nil }

// ReadNow implements Conn.
func (c Plain) ReadNow(p []byte) (n int, err error) {
	if c.Pending() == 0 {
		return 0, nil
	}
	return c.Read(p)
}

// ReadAhead implements Conn.
func (c Plain) ReadAhead(bool) {}

// Yield implements Conn.
func (c Plain) Yield() (held int) { return 0 }

// WriteFailure implements Conn.
func (c Plain) WriteFailure(err error) error { return err }

// Offer implements Conn.
func (c Plain) Offer(p []byte) (kept int, err error) {
	c.MayOffer()
	return c.Conn.Offer(p)
}

// Raw implements Conn.
func (c Plain) Raw() *rawio.Conn { return c.Conn }

// ConnectionState implements Conn.
func (c Plain) ConnectionState() tls.ConnectionState { return tls.ConnectionState{} }
