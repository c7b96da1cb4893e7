package l7proxy

import (
	"fmt"
	"io"

	"github.com/underlane/underlane/pkg/rawio"
)

// transport is the TCP connection below mTLS.
type transport struct {
	*rawio.Conn
	head []byte // bytes that were read already
	// ahead is read into, rather than what crypto/tls asks for, which is hardly
	// more than one record: nil but for bulk. It is the reader's.
	ahead *[]byte
	// shaking is set while the handshake is under way.
	shaking *shaking
}

// errTruncated: a FIN without the close_notify that every agent sends first.
// Anybody on the way can forge a FIN, and crypto/tls would take it for a proper
// end of the stream.
var errTruncated = fmt.Errorf("mTLS connection ended without close_notify: %w", io.ErrUnexpectedEOF)

func (c *transport) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	if c.shaking != nil {
		return c.shaking.read(c, p)
	}
	if c.ahead != nil && len(p) < len(*c.ahead) {
		n, err := c.Conn.Read(*c.ahead)
		copied := copy(p, (*c.ahead)[:n])
		c.head = (*c.ahead)[copied:n]
		return copied, whole(err)
	}
	n, err := c.Conn.Read(p)
	return n, whole(err)
}

// whole takes the end of TCP for what it is below TLS.
func whole(err error) error {
	if err == io.EOF {
		return errTruncated
	}
	return err
}

// readAhead makes reads take in what the network has, or no more than was asked
// for. What was read ahead is lost when it ends.
func (c *transport) readAhead(on bool) {
	switch {
	case on && c.ahead == nil && len(c.head) == 0:
		c.ahead = bulks.Get().(*[]byte)
	case !on && c.ahead != nil:
		bulks.Put(c.ahead)
		c.ahead, c.head = nil, nil
	}
}
