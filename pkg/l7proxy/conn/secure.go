package conn

import (
	"crypto/tls"
	"errors"
	"io"
	"time"

	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
)

// Secure is an mTLS connection between agents.
type Secure struct {
	*tls.Conn
	below *Transport

	// The byte that has ended Await, until the next Read. Only the reader uses it.
	first [1]byte
	ahead bool
}

// NewSecure returns a connection whose handshake is complete. below is the transport of c.
func NewSecure(c *tls.Conn, below *Transport) *Secure {
	below.MayGather()
	below.MayOffer()
	return &Secure{Conn: c, below: below}
}

// maxPlaintext is the most bytes that one record holds (RFC 8446 §5.1).
const maxPlaintext = 16 << 10

// Write writes p. crypto/tls makes one system call for each record, so Write gathers
// several records into one system call.
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

// Offer implements Conn. The kept bytes are encrypted.
func (c *Secure) Offer(p []byte) (kept int, err error) {
	raw := c.below.Conn
	raw.BeginOffer()
	_, err = c.Write(p)
	return raw.EndOffer(), err
}

// Flush implements Conn.
func (c *Secure) Flush() error {
	err := c.below.Flush()
	if c.below.Failures != nil {
		err = c.below.Failures.Failure(err)
	}
	return err
}

// Reset implements Conn. It sends no close_notify alert, which would mean an orderly end.
func (c *Secure) Reset() error {
	err := c.below.Conn.Reset()
	c.NetConn().Close()
	return err
}

// Idle implements Conn.
func (c *Secure) Idle() bool { return c.below.Idle() }

// closeNotify is the size in bytes of the record of an alert, such as close_notify, in TLS
// 1.3 with the ciphers that Go supports: its header, the alert, the content type, and the
// authentication tag (RFC 8446 §5.2, §6). A record of data that a peer has sent before it is
// not counted as a part of the end: the smallest one has 23 bytes.
const closeNotify = 5 + 2 + 1 + 16

// PeerClosed implements Conn.
func (c *Secure) PeerClosed() (ended, gone bool) {
	ended, gone = c.below.PeerState()
	return ended && (gone || c.below.Pending() <= closeNotify), gone
}

// Cut implements Conn. A peer that has ended its side has said so (errTruncated).
func (c *Secure) Cut() bool { return false }

// OnHangup implements Conn.
func (c *Secure) OnHangup(h *rawio.Hangups, f func()) error { return c.below.OnHangup(h, f) }

// CloseWrite implements Conn. It sends a FIN after the alert, so that the peer can see the
// end without reading.
func (c *Secure) CloseWrite() error {
	if err := c.Conn.CloseWrite(); err != nil {
		return err
	}
	return c.below.CloseWrite()
}

// ReadMore implements Conn. It is needed because crypto/tls returns after each record.
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

// ReadNow implements Conn.
func (c *Secure) ReadNow(p []byte) (n int, err error) {
	if c.ahead {
		return c.Read(p)
	}
	return c.ReadMore(p)
}

// Await implements Conn. crypto/tls does not say whether it has bytes already, so Await
// reads one, and keeps it for the next Read. That one takes the rest of the record, which
// is decrypted already.
func (c *Secure) Await() error {
	for !c.ahead {
		n, err := c.Conn.Read(c.first[:])
		if c.ahead = n > 0; err != nil && n == 0 {
			if err == io.EOF {
				return nil // the next Read says so again
			}
			return err
		}
	}
	return nil
}

// Read implements Conn.
func (c *Secure) Read(p []byte) (int, error) {
	if !c.ahead || len(p) == 0 {
		return c.Conn.Read(p)
	}
	c.ahead = false
	p[0] = c.first[0]
	raw := c.below.Conn
	raw.Eager(true) // the record may have had one byte
	defer raw.Eager(false)
	n, _ := c.Conn.Read(p[1:]) // but for ErrNotNow, crypto/tls returns an error again
	return 1 + n, nil
}

// Lent implements Conn. It returns nothing.
func (c *Secure) Lent() (buf *[]byte, n int) { return nil, 0 }

// ReadAhead implements Conn.
func (c *Secure) ReadAhead(on bool) { c.below.readAhead(on) }

// Yield implements Conn.
func (c *Secure) Yield() (held int) { return c.below.yield() }

// QuickAck implements Conn.
func (c *Secure) QuickAck() {}

// alertWait is how long the peer's alert may take to arrive.
const alertWait = 100 * time.Millisecond

// WriteFailure implements Conn. In TLS 1.3 the peer may have refused our certificate, and
// its alert must be read to learn that.
func (c *Secure) WriteFailure(err error) error {
	_ = c.SetReadDeadline(time.Now().Add(alertWait))
	if _, rerr := c.Read(make([]byte, 1)); mtls.Refused(rerr) {
		return rerr
	}
	return err
}

// ReadsInTurn implements Conn.
func (c *Secure) ReadsInTurn(turns rawio.Turns) { c.below.ReadsInTurn(turns) }

// WritesInTurn implements Conn.
func (c *Secure) WritesInTurn(turns rawio.Turns) { c.below.WritesInTurn(turns) }

// Raw implements Conn.
func (c *Secure) Raw() *rawio.Conn { return c.below.Conn }
