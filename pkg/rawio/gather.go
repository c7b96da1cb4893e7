package rawio

import (
	"io"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// gathered is what is to go out in one call. The goroutine between Gather and Send
// is not the only writer: TLS answers a peer from where it reads.
type gathered struct {
	mu  sync.Mutex
	on  bool
	buf *[gatherAtMost]byte
	n   int
}

// gatherAtMost is what the kernel makes one packet of, and the framing of TLS.
const gatherAtMost = 64<<10 + 1<<10

var gatherBuffers = sync.Pool{New: func() any { return new([gatherAtMost]byte) }}

// MayGather must be called before the first Gather, while no other goroutine has the
// connection. Writes may then come from several goroutines.
func (c *Conn) MayGather() { c.gathers = true }

// Gather makes what is written until Send go out in as few calls as possible. It
// is for a layer above that writes in small pieces what is there whole: each
// call into the network runs the receiver's stack.
func (c *Conn) Gather() {
	g := &c.gathered
	g.mu.Lock()
	g.on = true
	g.mu.Unlock()
}

// Send sends what was written since Gather, as Write does, and ends that. What
// Write returned nil for may fail here.
func (c *Conn) Send() error {
	g := &c.gathered
	g.mu.Lock()
	defer g.mu.Unlock()
	g.on = false
	err := c.sendLocked()
	if g.buf != nil {
		gatherBuffers.Put(g.buf)
		g.buf = nil
	}
	return err
}

func (c *Conn) sendLocked() error {
	g := &c.gathered
	if g.n == 0 {
		return nil
	}
	n := g.n
	g.n = 0
	_, err := c.pass(g.buf[:n])
	return err
}

// gather keeps p until Send, or writes it at once where there is no Gather.
func (c *Conn) gather(p []byte) (int, error) {
	g := &c.gathered
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.on {
		return c.pass(p)
	}
	taken := len(p)
	if g.buf == nil {
		g.buf = gatherBuffers.Get().(*[gatherAtMost]byte)
	}
	for len(p) > 0 {
		n := copy(g.buf[g.n:], p)
		g.n += n
		if p = p[n:]; len(p) > 0 {
			if err := c.sendLocked(); err != nil {
				return 0, err
			}
		}
	}
	return taken, nil
}

// ErrNotNow is what an eager Read returns where it would have to wait. It is a
// temporary net.Error, which TLS lets through and gets over.
var ErrNotNow net.Error = notNow{}

type notNow struct{}

func (notNow) Error() string   { return "nothing to read now" }
func (notNow) Timeout() bool   { return false }
func (notNow) Temporary() bool { return true }

// Eager makes reads return ErrNotNow rather than wait, or wait again. It is for
// whoever reads.
func (c *Conn) Eager(on bool) {
	if c.in.once == nil {
		c.in.once = c.tryReadOnce
	}
	c.eager = on
}

func (c *Conn) tryReadOnce(fd uintptr) bool {
	if !c.in.receive(fd) {
		c.in.n, c.in.err = 0, unix.EAGAIN
	}
	return true
}

func (c *Conn) readEager(p []byte) (int, error) {
	c.in.buf = p
	err := c.raw.Read(c.in.once)
	c.in.buf = nil
	switch {
	case err != nil:
		return 0, err
	case c.in.err == unix.EAGAIN:
		return 0, ErrNotNow
	case c.in.err != 0:
		return 0, c.opError("read", c.in.err)
	case c.in.n == 0:
		return 0, io.EOF
	}
	c.read.Add(uint64(c.in.n))
	return c.in.n, nil
}
