package l7proxy

import (
	"crypto/tls"
	"errors"

	"github.com/underlane/underlane/pkg/rawio"
)

// secureConn is an mTLS connection between agents.
type secureConn struct {
	*tls.Conn
	raw   *rawio.Conn
	below *transport // of raw
}

// secure is an mTLS connection whose handshake is done.
func secure(conn *tls.Conn, below *transport) *secureConn {
	below.MayGather()
	return &secureConn{conn, below.Conn, below}
}

// maxPlaintext is what one record holds (RFC 8446 §5.1).
const maxPlaintext = 16 << 10

// Write writes p. crypto/tls makes a system call of each record: where there
// are several they go out together.
func (c *secureConn) Write(p []byte) (int, error) {
	if len(p) <= maxPlaintext {
		return c.Conn.Write(p)
	}
	c.raw.Gather()
	n, err := c.Conn.Write(p)
	if sendErr := c.raw.Send(); err == nil && sendErr != nil {
		return 0, sendErr
	}
	return n, err
}

// readMore reads what is there already, after a Read: crypto/tls returns after
// each record. It does not wait.
func (c *secureConn) readMore(p []byte) (n int, err error) {
	c.raw.Eager(true)
	defer c.raw.Eager(false)
	for n < len(p) && err == nil {
		var m int
		m, err = c.Conn.Read(p[n:])
		n += m
	}
	if errors.Is(err, rawio.ErrNotNow) {
		err = nil
	}
	return n, err
}
