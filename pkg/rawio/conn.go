// Package rawio has TCP connections whose reads, writes and accepts are raw
// non-blocking system calls. Go's netpoller waits for readiness.
//
// An ordinary net.Conn tells the runtime about each system call. A write into a
// veth runs the receiver's whole network stack inside the call. This takes long
// enough for the runtime to take the processor from the thread and to wake another
// thread for it. The runtime does not see a raw call. Raw calls are safe here only
// because they never block: every descriptor is non-blocking, and only the
// netpoller waits.
package rawio

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Conn is a TCP connection. One goroutine may read while another one writes. All
// other methods may be called at any time, unless their comment says otherwise.
//
// It is made of layers, each of which embeds the one below it and uses none above: tcpSocket
// (socket.go), writer, holder, gatherer. Conn itself reads.
type Conn struct {
	gatherer
	in    operation
	idle  bool // result of peek
	eager bool // reads do not wait
	// emptied: the last read has taken all that had arrived, and the netpoller was not asked
	// since. Only reads of kept connections set it (kept.go).
	emptied bool
	waited  bool        // Await has waited
	reading atomic.Bool // a Read or an Await is under way
	how     howRead     // what in.try does now
	peeks   bool        // called is called by Idle

	// called is a callback for what the netpoller has no part in: Idle, and reads of kept
	// connections. It is made when it is first needed.
	called func(fd uintptr)
}

// howRead is what in.try does: what Read does, what an eager read or TryRead does, which do not
// wait, or what Await does.
type howRead uint8

const (
	waitingRead howRead = iota
	eagerRead
	awaitRead
)

// gatherer collects writes until Send (gather.go).
type gatherer struct {
	holder
	gathered gathered
}

// holder keeps writes until the next read (hold.go).
type holder struct {
	writer
	held      []byte // the next Read writes them: see Hold
	holds     bool
	heldBegun bool   // a part of held was sent
	unsent    bool   // the Hold has failed before that
	heldSent  func() // see Hold
}

// writer writes to the socket: it waits while the socket is full, or keeps what the socket
// does not take (impatient.go, offer.go).
type writer struct {
	tcpSocket
	out   operation
	later backlog
	cut   atomic.Bool // see Cut
}

// operation is a system call in progress. It is a part of the Conn, and its callback
// is made once, so that reads and writes do not allocate.
type operation struct {
	buf []byte
	n   int
	err syscall.Errno
	try func(fd uintptr) bool

	turns  Turns // see ReadsInTurn; nil: none
	paused bool  // turns.Pause was called for this operation
}

// Turns decides when a goroutine may work.
type Turns interface {
	// Pause says that the goroutine waits now.
	Pause()
	// Resume waits until the goroutine may go on.
	Resume()
}

var (
	_ net.Conn     = (*Conn)(nil)
	_ syscall.Conn = (*Conn)(nil)
)

// NewConn takes ownership of a connected, non-blocking socket. It closes the socket
// if it fails; otherwise Close does. LocalAddr and RemoteAddr return the addresses
// given here, which the caller has from accept or connect.
func NewConn(fd int, local, remote netip.AddrPort) (*Conn, error) {
	if fd < 0 {
		return nil, fmt.Errorf("connection: descriptor %d is not valid", fd)
	}
	raw, err := newDescriptor(fd)
	if err != nil {
		return nil, fmt.Errorf("connection: %w", err)
	}
	c := &Conn{}
	c.raw, c.local, c.remote = raw, local, remote
	c.in.try = c.tryRead
	c.out.try = c.tryWrite
	return c, nil
}

func (c *Conn) tryRead(fd uintptr) bool {
	switch c.how {
	case eagerRead:
		return c.tryReadOnce(fd)
	case awaitRead:
		return c.tryAwait(fd)
	}
	if len(c.held) > 0 {
		return c.writeHeld(fd, &c.in) || c.in.pause()
	}
	return c.in.receive(fd) || c.in.pause()
}

func (c *writer) tryWrite(fd uintptr) bool {
	if !c.out.send(fd) {
		return c.out.pause()
	}
	c.sent(c.out.err)
	return true
}

// pause tells turns that the operation waits. It returns false.
func (op *operation) pause() bool {
	if op.turns != nil && !op.paused {
		op.paused = true
		op.turns.Pause()
	}
	return false
}

// ReadsInTurn makes each Read that has waited return only when turns lets it go on. nil:
// at once. The goroutine that reads calls it.
func (c *Conn) ReadsInTurn(turns Turns) { c.in.turns = turns }

// WritesInTurn is ReadsInTurn for Write.
func (c *writer) WritesInTurn(turns Turns) { c.out.turns = turns }

// receive reads. False: the socket has nothing; wait for readiness and try again.
func (op *operation) receive(fd uintptr) bool { return op.done(receive(fd, op.buf, 0)) }

// send writes. False: the socket is full; wait for readiness and try again.
func (op *operation) send(fd uintptr) bool { return op.done(send(fd, op.buf)) }

func (op *operation) done(n int, errno syscall.Errno) bool {
	if errno == unix.EAGAIN {
		return false
	}
	op.n, op.err = n, errno
	return true
}

// Read reads the bytes that have arrived. It waits only if there are none. At the
// end of the stream it returns io.EOF.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.eager {
		return c.readEager(p)
	}
	if c.reading.Swap(true) {
		return 0, errTwoReaders
	}
	var err error
	c.in.buf = p
	if c.kept.Load() && len(c.held) == 0 {
		err = c.readKept()
	} else {
		c.emptied = false
		err = c.raw.Read(c.in.try)
	}
	c.in.buf = nil
	c.reading.Store(false)
	if c.in.turns != nil {
		c.in.paused = false
		c.in.turns.Resume()
	}
	if len(c.held) > 0 {
		if err == nil {
			return c.readAfterHeld(p)
		}
		c.closedWhileHeld(err)
		c.drop()
	}
	if unsent := c.takeUnsent(); unsent != nil {
		return 0, unsent
	}
	switch {
	case err != nil:
		return 0, err
	case c.in.err != 0:
		return 0, c.opError("read", c.in.err)
	case c.in.n == 0:
		return 0, io.EOF
	}
	c.read.Add(uint64(c.in.n))
	return c.in.n, nil
}

// Write writes all of p. It waits while the socket is full, unless Hold or Impatient
// was called.
func (c *gatherer) Write(p []byte) (int, error) {
	if c.gathered.may {
		return c.gather(p)
	}
	return c.pass(p)
}

// pass writes p in the connection's mode: impatient, holding, or neither.
func (c *holder) pass(p []byte) (int, error) {
	if c.later.on && !c.holds {
		return c.writeImpatient(p)
	}
	if c.holds {
		if len(c.held)+len(p) <= heldAtMost {
			c.held = append(c.held, p...)
			return len(p), nil
		}
		if err := c.Release(); err != nil {
			return 0, err
		}
	}
	return c.writeNow(p)
}

func (c *writer) writeNow(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		c.out.buf = p[done:]
		err := c.raw.Write(c.out.try)
		c.out.buf = nil
		if c.out.paused {
			c.out.paused = false
			c.out.turns.Resume()
		}
		if err != nil {
			return done, err
		}
		if c.out.err != 0 {
			return done, c.opError("write", c.out.err)
		}
		done += c.out.n
		c.wrote(c.out.n)
	}
	return done, nil
}

// Idle reports whether the connection is open and has nothing to read. A pool calls
// it before it reuses a connection. Only the goroutine that reads may call it.
func (c *Conn) Idle() bool {
	c.idle, c.peeks = false, true
	err := c.raw.Control(c.callback())
	c.peeks = false
	return err == nil && c.idle
}

// callback returns c.called.
func (c *Conn) callback() func(fd uintptr) {
	if c.called == nil {
		c.called = c.onControl
	}
	return c.called
}

func (c *Conn) onControl(fd uintptr) {
	if c.peeks {
		c.idle = nothingToRead(fd)
	} else {
		c.tryReadKept(fd)
	}
}
