package conn

import (
	"crypto/tls"
	"errors"
	"time"

	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
)

// Secure is an mTLS connection between agents.
type Secure struct {
	*tls.Conn
	below *Transport
}

// NewSecure is a connection whose handshake is done; below is what carries it.
func NewSecure(c *tls.Conn, below *Transport) *Secure {
	below.MayGather()
	return &Secure{c, below}
}

// maxPlaintext is what one record holds (RFC 8446 §5.1).
const maxPlaintext = 16 << 10

// Write writes p. crypto/tls makes a system call of each record: where there
// are several they go out together.
func (c *Secure) Write(p []byte) (int, error) {
	if len(p) <= maxPlaintext {
		return c.Conn.Write(p)
	}
	raw := c.below.Conn
	raw.Gather()
	n, err := c.Conn.Write(p)
	if sendErr := raw.Send(); err == nil && sendErr != nil {
		return 0, sendErr
	}
	return n, err
}

// Reset implements Conn. No alert is sent: that would be an end in order.
func (c *Secure) Reset() error {
	err := c.below.Conn.Reset()
	c.NetConn().Close()
	return err
}

// Idle implements Conn.
func (c *Secure) Idle() bool { return c.below.Idle() }

// closeNotify is about the size of the alert that ends a TLS connection.
const closeNotify = 64

// PeerClosed implements Conn.
func (c *Secure) PeerClosed() (ended, gone bool) {
	ended, gone = c.below.PeerState()
	return ended && (gone || c.below.Pending() <= closeNotify), gone
}

// OnHangup implements Conn.
func (c *Secure) OnHangup(h *rawio.Hangups, f func()) error { return c.below.OnHangup(h, f) }

// CloseWrite implements Conn. A FIN follows the alert, so that the peer can see the
// end without reading.
func (c *Secure) CloseWrite() error {
	if err := c.Conn.CloseWrite(); err != nil {
		return err
	}
	return c.below.CloseWrite()
}

// ReadMore implements Conn: crypto/tls returns after each record.
func (c *Secure) ReadMore(p []byte) (n int, err error) {
	raw := c.below.Conn
	raw.Eager(true)
	defer raw.Eager(false)
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

// ReadAhead implements Conn.
func (c *Secure) ReadAhead(on bool) { c.below.readAhead(on) }

// QuickAck implements Conn.
func (c *Secure) QuickAck() {}

// alertWait is how long the peer's alert may take to arrive.
const alertWait = 100 * time.Millisecond

// WriteFailure implements Conn: in TLS 1.3 the peer's refusal of our certificate
// waits to be read.
func (c *Secure) WriteFailure(err error) error {
	_ = c.SetReadDeadline(time.Now().Add(alertWait))
	if _, rerr := c.Read(make([]byte, 1)); mtls.Refused(rerr) {
		return rerr
	}
	return err
}

// Raw implements Conn.
func (c *Secure) Raw() *rawio.Conn { return c.below.Conn }
