package rawio

import (
	"io"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// gathered collects writes for one system call. It has a lock because the goroutine
// that calls Gather and Send is not the only writer: crypto/tls also writes while it
// reads, to answer the peer.
type gathered struct {
	may bool // MayGather was called; read without the lock
	mu  sync.Mutex
	on  bool
	buf *[gatherAtMost]byte
	n   int
}

// gatherAtMost is the size of the largest packet that the kernel makes of one write
// (64 KiB), plus the framing of TLS.
const gatherAtMost = 64<<10 + 1<<10

var gatherBuffers = sync.Pool{New: func() any { return new([gatherAtMost]byte) }}

// MayGather must be called before the first Gather, while no other goroutine uses the
// connection. Several goroutines may call Write afterwards.
func (c *gatherer) MayGather() { c.gathered.may = true }

// Gather makes Write collect bytes until Send, which sends them in as few system calls
// as possible. It is for a layer above that has a whole message and writes it in small
// pieces: each system call runs the receiver's network stack.
func (c *gatherer) Gather() {
	g := &c.gathered
	g.mu.Lock()
	g.on = true
	g.mu.Unlock()
}

// Send ends the collecting and sends, as Write does, the bytes that were written since
// Gather. It returns the error of bytes for which Write has returned nil.
func (c *gatherer) Send() error {
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

func (c *gatherer) sendLocked() error {
	g := &c.gathered
	if g.n == 0 {
		return nil
	}
	n := g.n
	g.n = 0
	_, err := c.pass(g.buf[:n])
	return err
}

// gather keeps p until Send. Without a Gather it writes p at once.
func (c *gatherer) gather(p []byte) (int, error) {
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

// ErrNotNow is the error of an eager Read that would have to wait. It is a temporary
// net.Error: crypto/tls returns such an error and can read on afterwards.
var ErrNotNow net.Error = notNow{}

type notNow struct{}

func (notNow) Error() string   { return "nothing to read now" }
func (notNow) Timeout() bool   { return false }
func (notNow) Temporary() bool { return true }

// Eager sets whether Read returns ErrNotNow where it would have to wait. Only the
// goroutine that reads may call it.
func (c *Conn) Eager(on bool) { c.eager = on }

func (c *Conn) tryReadOnce(fd uintptr) bool {
	if !c.in.receive(fd) {
		c.in.n, c.in.err = 0, unix.EAGAIN
	}
	return true
}

// TryRead is Read, except that it returns ErrNotNow where it would have to wait. It looks at no
// deadline. Only the goroutine that reads may call it, and not during a Hold.
func (c *Conn) TryRead(p []byte) (int, error) { return c.readEager(p) }

func (c *Conn) readEager(p []byte) (int, error) {
	c.in.buf, c.emptied = p, false
	c.how = eagerRead
	err := c.raw.Read(c.in.try)
	c.how = waitingRead
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
