package rawio

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// heldAtMost bounds the bytes that are held. More would need a second system call.
const heldAtMost = 32 << 10

// HoldAtMost is the number of bytes that a Hold is sure to hold, also as records of TLS.
const HoldAtMost = 30 << 10

// ErrUnsent is the error of a Read whose held bytes were not sent, not even a part of
// them: the peer had ended its side, or said something, or the connection was cut. The
// bytes may be sent on another connection, whatever they are.
var ErrUnsent = errors.New("the connection ended, or the peer said something, before the held bytes were sent")

// Hold makes Write keep its bytes, and the next Read send them before it waits. It is
// for a request whose response cannot arrive before the request was sent. The netpoller
// is prepared to wait before the bytes are sent, so the response's arrival is not
// missed, and there is no read that returns nothing. What had arrived before that would
// not end the wait, so the Read looks for it first: it does what Idle does, and returns
// ErrUnsent if the connection is not idle. Read may therefore return an error of bytes for
// which Write has returned nil. A Hold ends with that Read, or with Release. Until then
// only one goroutine may call Write, Read, Hold and Release. More than HoldAtMost bytes may
// be sent at once, without that look.
//
// sent, if it is not nil, is called when the held bytes have gone out. It must not wait,
// and must not use the connection.
func (c *holder) Hold(sent func()) { c.holds, c.heldSent = true, sent }

// Release sends the held bytes without a read, and ends the Hold.
func (c *holder) Release() error {
	held, sent := c.held, c.heldSent
	c.drop()
	_, err := c.writeNow(held)
	if err == nil && sent != nil {
		sent()
	}
	return err
}

// Held reports whether bytes are held. After a Read it means that the layer above
// already had bytes of a response before the request was sent.
func (c *holder) Held() bool { return len(c.held) > 0 }

func (c *holder) drop() {
	c.holds, c.heldBegun, c.heldSent = false, false, nil
	c.held = c.held[:0]
	if cap(c.held) > keepHeld {
		c.held = nil
	}
}

// keepHeld bounds the memory that an idle connection keeps for the next Hold.
const keepHeld = 2 << 10

// writeHeld is the first try of a Read or an Await after Hold. False: all bytes were sent;
// wait for the response. True: the socket did not accept all bytes, and the rest stays
// held, or the Hold has failed. in is the operation of the reader, which gets the error.
func (c *holder) writeHeld(fd uintptr, in *operation) bool {
	if !c.heldBegun && !nothingToRead(fd) {
		c.drop()
		c.unsent = true
		return true
	}
	n, errno := send(fd, c.held)
	switch errno {
	case 0, unix.EAGAIN:
		return c.sentHeld(n)
	default:
		c.unsent = !c.heldBegun
		c.drop()
		in.n, in.err = 0, errno
		return true
	}
}

// closedWhileHeld ends the Hold if err, of a read, means that the connection was closed, and
// not that its deadline has passed.
func (c *holder) closedWhileHeld(err error) {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.unsent = c.unsent || !c.heldBegun
		c.drop()
	}
}

// takeUnsent returns ErrUnsent, once, if the Hold has failed before a byte was sent.
func (c *holder) takeUnsent() error {
	if !c.unsent {
		return nil
	}
	c.unsent = false
	return ErrUnsent
}

// sentHeld counts n held bytes as sent. It reports whether some are left.
func (c *holder) sentHeld(n int) bool {
	if n <= 0 {
		return true
	}
	c.wrote(n)
	c.heldBegun = true
	if n < len(c.held) {
		c.held = c.held[:copy(c.held, c.held[n:])]
		return true
	}
	sent := c.heldSent
	c.drop()
	if sent != nil {
		sent()
	}
	return false
}

// readAfterHeld continues a Read after the socket did not accept all held bytes at once.
func (c *Conn) readAfterHeld(p []byte) (int, error) {
	if err := c.Release(); err != nil {
		return 0, err
	}
	return c.Read(p)
}
