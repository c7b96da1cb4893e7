package rawio

import "golang.org/x/sys/unix"

// heldAtMost bounds what is held back: more would not go out in one call.
const heldAtMost = 32 << 10

// Hold makes the next Read send what is written until then, before it waits.
// It is for a request whose answer cannot come before it was sent: the wait is
// prepared first, so the answer's arrival cannot be missed, and no read is made
// in vain. What Write returned nil for may so fail in Read. A Hold ends with
// that Read, or with Release. Write, Read, Hold and Release are then for one
// goroutine.
//
// sent, if it is not nil, is called when what was held has gone out whole. It must
// not wait, and not use the connection.
func (c *Conn) Hold(sent func()) { c.holds, c.heldSent = true, sent }

// Release sends what is held without reading, and ends the Hold.
func (c *Conn) Release() error {
	held, sent := c.held, c.heldSent
	c.drop()
	_, err := c.writeNow(held)
	if err == nil && sent != nil {
		sent()
	}
	return err
}

// Held reports whether something is held: after a Read it means that the layer
// above had an answer before there was a request.
func (c *Conn) Held() bool { return len(c.held) > 0 }

func (c *Conn) drop() {
	c.holds, c.heldSent = false, nil
	c.held = c.held[:0]
	if cap(c.held) > keepHeld {
		c.held = nil
	}
}

// keepHeld bounds the memory that an idle connection keeps for the next Hold.
const keepHeld = 2 << 10

// writeHeld is the first try of a Read after Hold. False: all is sent, wait for
// the answer. True: the socket does not take all, and what is left stays held.
func (c *Conn) writeHeld(fd uintptr) bool {
	n, errno := send(fd, c.held)
	switch errno {
	case 0:
	case unix.EAGAIN:
		return true
	default:
		// What the peer said before it went tells more than that it is gone.
		c.drop()
		if c.in.receive(fd) && c.in.err == 0 && c.in.n > 0 {
			return true
		}
		c.in.n, c.in.err = 0, errno
		return true
	}
	c.write.Add(uint64(n))
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

// readAfterHeld goes on when the socket did not take all at once.
func (c *Conn) readAfterHeld(p []byte) (int, error) {
	if err := c.Release(); err != nil {
		return 0, err
	}
	return c.Read(p)
}
