package rawio

import "golang.org/x/sys/unix"

// heldAtMost bounds the bytes that are held. More would need a second system call.
const heldAtMost = 32 << 10

// Hold makes Write keep its bytes, and the next Read send them before it waits. It is
// for a request whose response cannot arrive before the request was sent. The netpoller
// is prepared to wait before the bytes are sent, so the response's arrival is not
// missed, and there is no read that returns nothing. What had arrived before that is not
// noticed until more comes: the peer must have nothing to say first. Read may therefore return an
// error of bytes for which Write has returned nil. A Hold ends with that Read, or with
// Release. Until then only one goroutine may call Write, Read, Hold and Release.
//
// sent, if it is not nil, is called when the held bytes have gone out. It must not wait,
// and must not use the connection.
func (c *Conn) Hold(sent func()) { c.holds, c.heldSent = true, sent }

// Release sends the held bytes without a read, and ends the Hold.
func (c *Conn) Release() error {
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

// writeHeld is the first try of a Read after Hold. False: all bytes were sent; wait
// for the response. True: the socket did not accept all bytes, and the rest stays held.
func (c *Conn) writeHeld(fd uintptr) bool {
	n, errno := send(fd, c.held)
	switch errno {
	case 0, unix.EAGAIN:
		return c.sentHeld(n)
	default:
		// Bytes that the peer sent before it closed the connection say more than the
		// error does.
		c.drop()
		if c.in.receive(fd) && c.in.err == 0 && c.in.n > 0 {
			return true
		}
		c.in.n, c.in.err = 0, errno
		return true
	}
}

// sentHeld counts n held bytes as sent. It reports whether some are left.
func (c *Conn) sentHeld(n int) bool {
	if n <= 0 {
		return true
	}
	c.wrote(n)
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
