package conn

import (
	"fmt"
	"io"

	"github.com/underlane/underlane/pkg/rawio"
)

// Transport is the TCP connection below mTLS.
type Transport struct {
	*rawio.Conn
	// Head is bytes that were read already.
	Head []byte
	// Handshake reads while the handshake is under way, if it is not nil.
	Handshake func(t *Transport, p []byte) (int, error)

	// ahead is read into, rather than what crypto/tls asks for, which is hardly
	// more than one record: nil but for bulk. It is the reader's.
	ahead *[]byte
}

// errTruncated: a FIN without the close_notify that every agent sends first.
// Anybody on the path can forge a FIN, and crypto/tls would take it for a proper
// end of the stream.
var errTruncated = fmt.Errorf("mTLS connection ended without close_notify: %w", io.ErrUnexpectedEOF)

func (t *Transport) Read(p []byte) (int, error) {
	if len(t.Head) > 0 {
		n := copy(p, t.Head)
		t.Head = t.Head[n:]
		return n, nil
	}
	if t.Handshake != nil {
		return t.Handshake(t, p)
	}
	if t.ahead != nil && len(p) < len(*t.ahead) {
		n, err := t.Conn.Read(*t.ahead)
		copied := copy(p, (*t.ahead)[:n])
		t.Head = (*t.ahead)[copied:n]
		return copied, EOFIsTruncation(err)
	}
	n, err := t.Conn.Read(p)
	return n, EOFIsTruncation(err)
}

// EOFIsTruncation is err, where the end of TCP below TLS is a truncation.
func EOFIsTruncation(err error) error {
	if err == io.EOF {
		return errTruncated
	}
	return err
}

// readAhead makes reads take in what the network has, or no more than was asked
// for. What was read ahead is lost when it is turned off.
func (t *Transport) readAhead(on bool) {
	switch {
	case on && t.ahead == nil && len(t.Head) == 0:
		t.ahead = bulks.Get().(*[]byte)
	case !on && t.ahead != nil:
		bulks.Put(t.ahead)
		t.ahead, t.Head = nil, nil
	}
}
