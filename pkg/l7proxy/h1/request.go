package h1

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
)

// headTime is how long a client may take to send a head, from its first byte.
const headTime = 30 * time.Second

// readRequest reads the head of the next request, and returns its length. The head lies
// at the start of d.in.
func (d *session) readRequest() (int, error) {
	began := false
	for {
		if len(d.in) > 0 {
			n, err := http1.ParseRequest(d.in, &d.req)
			if n > 0 || err != nil {
				if began {
					_ = d.s.Client.SetReadDeadline(time.Time{})
				}
				return n, err
			}
			if !began {
				began = true
				_ = d.s.Client.SetReadDeadline(time.Now().Add(headTime))
			}
			conn.QuickAckPartial(d.s.Client, d.got)
		}
		if err := d.readMore(len(d.in) == 0); err != nil {
			return 0, err
		}
	}
}

// readMore appends bytes of the client to d.in. With idle set it waits for the next
// request: the session then counts as idle, and a drain ends the wait.
func (d *session) readMore(idle bool) error {
	if d.buf == nil {
		n, err := d.s.Client.Read(d.idleBuf[:])
		return d.took(n, err)
	}
	if len(d.in) == cap(d.in) || len(d.in) == 0 { // move the bytes to the start of a buffer with room
		if len(d.in) == len(*d.buf) {
			bigger := make([]byte, 2*len(*d.buf))
			copy(bigger, d.in)
			d.buf = &bigger
		} else {
			copy(*d.buf, d.in)
		}
		d.in = (*d.buf)[:len(d.in)]
	}
	if idle && d.exchanges > 0 { // a drain must not end a connection before its first request
		return d.readIdle()
	}
	n, err := d.s.Client.Read(d.in[len(d.in):cap(d.in)])
	d.in, d.got = d.in[:len(d.in)+n], n
	if n > 0 {
		return nil
	}
	return err
}

// readIdle waits for the first bytes of the next request. It holds no pooled buffer while
// it waits.
func (d *session) readIdle() error {
	if cap(d.out) > keepOut {
		d.out = nil
	}
	d.putBuffer()
	d.beginIdle()
	var n int
	err := io.EOF
	if d.s.Lifetime.Draining.Err() == nil {
		n, err = d.s.Client.Read(d.idleBuf[:])
	}
	d.endIdle()
	return d.took(n, err)
}

// took takes a buffer for the n bytes that were read into idleBuf.
func (d *session) took(n int, err error) error {
	d.buf = conn.GetBuffer()
	d.in, d.got = (*d.buf)[:copy(*d.buf, d.idleBuf[:n])], n
	if n > 0 {
		return nil
	}
	return err
}

// putBuffer gives the buffer back, if there is one.
func (d *session) putBuffer() {
	if d.buf != nil {
		conn.PutBuffer(d.buf)
		d.buf = nil
	}
}

// refuseRequest ends a connection whose next request could not be read because of err. It
// answers where a part of a request has arrived. It returns false, as exchange does.
func (d *session) refuseRequest(err error) bool {
	var syntax *http1.SyntaxError
	var reason mesh.Reason
	switch {
	case errors.Is(err, http1.ErrHeaderTooLarge):
		reason = mesh.ReasonHeaderTooLarge
	case errors.As(err, &syntax):
		reason = mesh.ReasonBadRequest
	case len(d.in) == 0:
		return false // the client has closed the connection, or the proxy drains
	case errors.Is(err, os.ErrDeadlineExceeded):
		reason = mesh.ReasonRequestTimeout
	default:
		reason = mesh.ReasonClientReset
	}
	d.exchanges++
	d.x.Begin(d.s, d.exchanges, request.Line{Protocol: "http1"})
	return d.fail(reason, 0, false)
}
