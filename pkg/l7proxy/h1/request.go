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

// headTime is how long a client may take to send a head, from its first byte. The more
// bytes of its pod's clients wait, the less it is, down to headTimeLeast.
const (
	headTime      = 30 * time.Second
	headTimeLeast = 2 * time.Second
	headLook      = 4 * time.Second // how often a head that is under way is looked at
)

// headBuffer is the unit of the size of the buffer of a head that comes slowly.
const headBuffer = conn.HeadBufferSize

// errCrowded: too many bytes of the pod's clients wait for the rest of a head to be waited
// for.
var errCrowded = errors.New("too many bytes of the pod's clients wait (--pod-buffer)")

// readRequest reads the head of the next request, and returns its length. The head lies
// at the start of d.in.
func (d *messages) readRequest() (int, error) {
	var began time.Time
	for {
		if len(d.in) > 0 {
			n, err := http1.ParseRequest(d.in, &d.req)
			if n > 0 || err != nil {
				if !began.IsZero() {
					_ = d.s.Client.SetReadDeadline(time.Time{})
					d.waiting.Set(0, d.s.Quota)
				}
				return n, err
			}
			conn.QuickAckPartial(d.s.Client, d.got)
			if began.IsZero() {
				began = time.Now()
			}
			if err := d.readHead(began); err != nil {
				return 0, err
			}
			continue
		}
		if err := d.readMore(true); err != nil {
			return 0, err
		}
	}
}

// holdRequest charges the buffer of a large request of size bytes to the pod, and what is
// sent of it (d.out): both are held until the response begins, however long that takes. The
// others are small. It returns false if too many bytes of the pod wait.
func (d *messages) holdRequest(size int) bool {
	if len(*d.buf) <= headBuffer {
		return true
	}
	d.waiting.Set(len(*d.buf), d.s.Quota)
	if !d.s.Quota.MayWait() {
		return false
	}
	// The copy counts for the next ones: it is no reason to refuse a request that is here.
	d.waiting.Set(len(*d.buf)+max(size, cap(d.out)), d.s.Quota)
	return true
}

// readHead reads more of a head that has begun. Meanwhile it holds a buffer for what there
// is, which is charged to the pod.
func (d *messages) readHead(began time.Time) error {
	d.fitBuffer()
	d.waiting.Set(len(*d.buf), d.s.Quota)
	if !d.s.Quota.MayWait() {
		return errCrowded
	}
	for {
		now := time.Now()
		by := began.Add(headPatience(d.s.Quota.Fill()))
		if !now.Before(by) {
			return os.ErrDeadlineExceeded
		}
		if look := now.Add(headLook); look.Before(by) {
			by = look
		}
		_ = d.s.Client.SetReadDeadline(by)
		if err := d.readMore(false); !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
}

// headPatience is how long a head may take while the pod has that part of the bytes that
// may wait.
func headPatience(fill float64) time.Duration {
	return max(headTimeLeast, time.Duration((1-fill)*float64(headTime)))
}

// fitBuffer moves the bytes into a buffer that is not much larger.
func (d *messages) fitBuffer() {
	size := (len(d.in)/headBuffer + 1) * headBuffer
	if size >= len(*d.buf) {
		return
	}
	few := make([]byte, size)
	d.in = few[:copy(few, d.in)]
	d.putBuffer()
	d.buf = &few
}

// readMore appends bytes of the client to d.in. With idle set it waits for the next
// request: the session then counts as idle, and a drain ends the wait.
func (d *messages) readMore(idle bool) error {
	if d.buf == nil {
		n, err := d.s.Client.Read(d.idleBuf[:])
		return d.took(n, err)
	}
	if len(d.in) == 0 && len(*d.buf) < conn.BufferSize {
		d.buf = conn.GetBuffer()
	}
	if len(d.in) == cap(d.in) || len(d.in) == 0 { // move the bytes to the start of a buffer with room
		if len(d.in) == len(*d.buf) && d.buf == &d.small {
			d.buf = conn.GetHeadBuffer()
			copy(*d.buf, d.in)
		} else if len(d.in) == len(*d.buf) {
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

// readBody reads more of a body, of which nothing is left in d.in. It holds no buffer while
// it waits. What is in d.buf, the head, is not needed any more.
func (d *messages) readBody() error {
	d.putBuffer()
	d.in = nil
	if err := d.s.Client.Await(); err != nil {
		d.buf, d.got = &d.small, 0
		return err
	}
	if buf, n := d.s.Client.Lent(); n > 0 {
		d.buf, d.in, d.got = buf, (*buf)[:n], n
		return nil
	}
	d.buf = conn.GetBuffer()
	n, err := d.s.Client.Read(*d.buf)
	d.in, d.got = (*d.buf)[:n], n
	if n > 0 {
		return nil
	}
	return err
}

// readIdle waits for the first bytes of the next request. It holds no pooled buffer while
// it waits.
func (d *messages) readIdle() error {
	if cap(d.out) > keepOut {
		d.out = nil
	}
	d.putBuffer()
	var n int
	err := io.EOF
	if d.beginIdle() && d.s.Lifetime.Draining.Err() == nil {
		n, err = d.s.Client.Read(d.idleBuf[:])
		if n == 0 && d.phase.mayRest(d.s.Client, err) {
			d.rests = true
			_ = d.took(0, nil)
			return err
		}
		if n == 0 && d.awaitLast() {
			n, err = d.s.Client.Read(d.idleBuf[:])
		}
	}
	d.endIdle()
	if n == 0 {
		if came, _ := d.s.Client.ReadNow(d.idleBuf[:]); came > 0 {
			n, err = came, nil // it came just before the wait was ended: it is served
		}
	}
	return d.took(n, err)
}

// takeBuffer takes over the buffer that has the first bytes of the connection. It moves
// them into one that is not much larger.
func (d *messages) takeBuffer(buf *[]byte) {
	first := (*buf)[:d.got]
	switch {
	case d.got == 0:
	case d.got < idleBytes:
		_ = d.took(copy(d.idleBuf[:], first), nil)
	case d.got < headBuffer:
		d.buf = conn.GetHeadBuffer()
		d.in = (*d.buf)[:copy(*d.buf, first)]
	default:
		d.buf, d.in = buf, first
		return
	}
	conn.PutBuffer(buf)
}

// took makes the n bytes that were read into idleBuf the begin of a request. Most requests
// fit into it, and need no other buffer until their response has been sent.
func (d *messages) took(n int, err error) error {
	d.buf, d.in, d.got = &d.small, d.small[:n], n
	if n > 0 {
		return nil
	}
	return err
}

// putBuffer gives the buffer back, if there is one.
func (d *messages) putBuffer() {
	if d.buf != nil {
		conn.PutBuffer(d.buf)
		d.buf = nil
	}
}

// dropHead drops a head that is not waited for, and does not wait long for the end of the
// client either.
func (d *messages) dropHead() {
	d.putBuffer()
	few := make([]byte, headBuffer)
	d.buf, d.in, d.hurry = &few, nil, true
	d.waiting.Set(len(few), d.s.Quota)
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
	case len(d.in) == 0: // the client has closed the connection, or the proxy drains
		d.farewell()
		return false
	case errors.Is(err, os.ErrDeadlineExceeded):
		reason = mesh.ReasonRequestTimeout
	case errors.Is(err, errCrowded):
		reason = mesh.ReasonOverload
		d.dropHead()
	default:
		reason = mesh.ReasonClientReset
	}
	d.exchanges++
	d.x.Begin(d.s, d.exchanges, request.Line{Protocol: "http1"})
	return d.fail(reason, 0, false)
}
