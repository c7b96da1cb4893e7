package conn

import (
	"bytes"
	"fmt"
	"io"

	"github.com/underlane/underlane/pkg/rawio"
)

// Transport is the TCP connection below mTLS.
type Transport struct {
	*rawio.Conn
	// Head has bytes that were read already. Read returns them first.
	Head []byte
	// Handshake replaces Read during the handshake, if it is not nil.
	Handshake func(t *Transport, p []byte) (int, error)

	// Failures gives the error of a Flush its reason, as what is above the Transport does
	// for Read and Write. nil: the error stays as it is.
	Failures Failures

	// ahead is the buffer for reads ahead, which readsAhead turns on: crypto/tls asks for
	// little more than one record at a time. Only the reader uses both.
	ahead      *[]byte
	readsAhead bool
}

// Failures knows why a connection failed.
type Failures interface {
	// Failure is err with its reason. nil stays nil.
	Failure(err error) error
}

// errTruncated is the error of a FIN without a close_notify alert before it, which every
// agent sends. An attacker on the path can forge a FIN, and crypto/tls would treat it as
// an orderly end of the stream.
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
	if t.readsAhead && len(p) < bulkSize {
		if t.ahead == nil {
			t.ahead = bulks.Get().(*[]byte)
		}
		n, err := t.Conn.Read(*t.ahead)
		copied := copy(p, (*t.ahead)[:n])
		t.Head = (*t.ahead)[copied:n]
		return copied, EOFIsTruncation(err)
	}
	n, err := t.Conn.Read(p)
	return n, EOFIsTruncation(err)
}

// EOFIsTruncation returns err, or an error for a truncated stream if err is io.EOF. It is
// for errors of reads below TLS.
func EOFIsTruncation(err error) error {
	if err == io.EOF {
		return errTruncated
	}
	return err
}

// readAhead sets whether reads take all bytes that have arrived, or only as many as they
// were asked for. Bytes that were read ahead are lost when it is turned off.
func (t *Transport) readAhead(on bool) {
	if t.readsAhead && !on {
		t.yield()
		t.Head = nil
	}
	t.readsAhead = on
}

// yield gives the buffer for reads ahead back until the next read that needs it. It returns
// the number of bytes that were read ahead, which move into memory of their size.
func (t *Transport) yield() (held int) {
	if t.ahead != nil {
		t.Head = bytes.Clone(t.Head)
		bulks.Put(t.ahead)
		t.ahead = nil
	}
	return len(t.Head)
}
