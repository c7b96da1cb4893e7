package rawio

import "sync"

// backlog holds the bytes that the socket of an impatient connection did not accept.
type backlog struct {
	on      bool // never reset
	mu      sync.Mutex
	patient bool
	buf     []byte
	done    int // leading bytes of buf that were sent
	once    func(fd uintptr) bool
}

// keepBacklog bounds the memory in bytes that is kept for the next backlog.
const keepBacklog = 4 << 10

// Impatient makes Write return at once: bytes that the socket does not take are
// kept in the backlog, which the next Flush sends. A reader can therefore write
// to the other side itself, and a second goroutine is needed only while that side
// is slow. The backlog has no limit: callers check Backlog after each Write.
// Several goroutines may call Write afterwards.
func (c *writer) Impatient() {
	c.MayOffer()
	c.SetPatient(false)
}

// SetPatient sets whether Write waits while the socket is full, as it does on a
// connection that is not impatient.
func (c *writer) SetPatient(on bool) {
	c.later.mu.Lock()
	c.later.patient = on
	c.later.mu.Unlock()
}

// Backlog is the number of bytes that wait for a Flush.
func (c *writer) Backlog() int {
	c.later.mu.Lock()
	defer c.later.mu.Unlock()
	return len(c.later.buf) - c.later.done
}

// Flush waits until the backlog is sent.
func (c *writer) Flush() error {
	c.later.mu.Lock()
	defer c.later.mu.Unlock()
	return c.flushLocked()
}

func (c *writer) flushLocked() error {
	l := &c.later
	if len(l.buf) == 0 {
		return nil
	}
	n, err := c.writeNow(l.buf[l.done:])
	l.done += n
	if l.done == len(l.buf) {
		l.buf, l.done = l.buf[:0], 0
		if cap(l.buf) > keepBacklog {
			l.buf = nil
		}
	}
	return err
}

func (c *writer) writeImpatient(p []byte) (int, error) {
	l := &c.later
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.patient {
		if err := c.flushLocked(); err != nil {
			return 0, err
		}
		return c.writeNow(p)
	}
	return c.writeOnce(p)
}

// writeOnce writes what the socket takes of p, and keeps the rest. mu is held.
func (c *writer) writeOnce(p []byte) (int, error) {
	l := &c.later
	n := 0
	if len(l.buf) == 0 && len(p) > 0 {
		c.out.buf = p
		err := c.raw.Write(l.once)
		c.out.buf = nil
		if err != nil {
			return 0, err
		}
		if c.out.err != 0 {
			return 0, c.opError("write", c.out.err)
		}
		n = c.out.n
		c.wrote(n)
	}
	l.buf = append(l.buf, p[n:]...)
	return len(p), nil
}

// tryOnce writes the bytes that the socket accepts now, possibly none.
func (c *writer) tryOnce(fd uintptr) bool {
	if !c.out.send(fd) {
		c.out.n, c.out.err = 0, 0
	}
	c.sent(c.out.err)
	return true
}
