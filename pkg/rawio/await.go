package rawio

import "golang.org/x/sys/unix"

// Await waits until there is something to read, or the end of the stream, so that the
// caller needs no buffer while nothing comes. If Await has waited, it makes as many system
// calls as a Read that waits, but for the one that then reads. An error that is not the
// expiry of a deadline is the connection's, which is not reported again. Only the goroutine
// that reads may call Await. During a Hold it sends the held bytes, as Read does; if the
// socket does not accept them at once, it does not wait, and the next Read goes on.
func (c *Conn) Await() error {
	if c.reading.Swap(true) {
		return errTwoReaders
	}
	c.in.err, c.waited, c.emptied = 0, false, false
	c.how = awaitRead
	err := c.raw.Read(c.in.try)
	c.how = waitingRead
	c.reading.Store(false)
	if c.in.turns != nil {
		c.in.paused = false
		c.in.turns.Resume()
	}
	if len(c.held) > 0 && err != nil {
		c.closedWhileHeld(err)
	}
	if unsent := c.takeUnsent(); unsent != nil {
		return unsent
	}
	if err == nil && c.in.err != 0 {
		err = c.opError("read", c.in.err)
	}
	return err
}

// tryAwait looks whether there is something to read, and returns true after a wait: then
// there is.
func (c *Conn) tryAwait(fd uintptr) bool {
	if c.waited {
		return true
	}
	if len(c.held) > 0 {
		if c.writeHeld(fd, &c.in) {
			return true
		}
		c.waited = true
		return c.in.pause()
	}
	var b [1]byte
	_, errno := receive(fd, b[:], unix.MSG_PEEK)
	if errno == unix.EAGAIN {
		c.waited = true
		return c.in.pause()
	}
	c.in.err = errno
	return true
}
