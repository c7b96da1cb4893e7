package certchain

import (
	"fmt"
	"net"
)

// MaxHandshake is the most bytes that a peer may send in a handshake. crypto/tls has
// parsed all certificates of a chain when it calls VerifyConnection, and it takes a chain
// of 256 KiB. A chain of MaxBytes and the other messages of a handshake, at most 3 KiB,
// are below this.
const MaxHandshake = 12 << 10

// ErrHandshake is the error of a read beyond MaxHandshake. It wraps ErrBounds.
var ErrHandshake = fmt.Errorf("%w: the peer sent more than %d bytes in the handshake", ErrBounds, MaxHandshake)

// Conn is a connection whose peer may send MaxHandshake bytes before Done is called. It
// goes below TLS, where it also does not read ahead what follows the handshake beyond that
// number.
type Conn struct {
	net.Conn
	left int // bytes; -1: no limit
}

// NewConn returns a Conn. Nothing of the handshake was read from conn yet.
func NewConn(conn net.Conn) *Conn { return &Conn{conn, MaxHandshake} }

// Read reads. Beyond the limit it returns ErrHandshake.
func (c *Conn) Read(p []byte) (int, error) {
	if c.left < 0 {
		return c.Conn.Read(p)
	}
	if c.left == 0 {
		return 0, ErrHandshake
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// Done ends the limit: the handshake is complete, or its certificates were checked. It is
// called from the goroutine that reads.
func (c *Conn) Done() { c.left = -1 }

// NetConn returns the connection below.
func (c *Conn) NetConn() net.Conn { return c.Conn }
