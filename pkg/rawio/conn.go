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
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a TCP connection. One goroutine may read while another one writes. All
// other methods may be called at any time, unless their comment says otherwise.
//
// It is made of layers, each of which embeds the one below it and uses none above: tcpSocket,
// writer, holder, gatherer. Conn itself reads.
type Conn struct {
	gatherer
	in    operation
	peek  func(fd uintptr)
	idle  bool // result of peek
	eager bool // reads do not wait
	// emptied: the last read has taken all that had arrived, and the netpoller was not asked
	// since. Only reads of kept connections set it (kept.go).
	emptied bool
	waited  bool        // Await has waited
	reading atomic.Bool // a Read or an Await is under way

	// Callbacks like operation.try, made when they are first needed: of eager reads, which do not
	// wait, of Await, and of reads of kept connections.
	eagerly func(fd uintptr) bool
	await   func(fd uintptr) bool
	tryKept func(fd uintptr)
}

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

// tcpSocket is the descriptor: its addresses and options, what the kernel knows of the
// connection, and how it ends.
type tcpSocket struct {
	file   *os.File // owns the descriptor and its place in the netpoller
	raw    syscall.RawConn
	local  netip.AddrPort
	remote netip.AddrPort

	read, write atomic.Uint64
	closers     closers                 // see OnClose
	hangups     atomic.Pointer[Hangups] // see OnHangup
	closing     atomic.Bool
	last        atomic.Pointer[Facts] // see Last

	kept  atomic.Bool // reads rely on what the netpoller notices between them (kept.go)
	ended atomic.Bool // the peer has ended its side; set if it is watched
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
	file := os.NewFile(uintptr(fd), "tcp")
	if file == nil {
		return nil, fmt.Errorf("connection: descriptor %d is not valid", fd)
	}
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("connection: %w", err)
	}
	c := &Conn{}
	c.file, c.raw, c.local, c.remote = file, raw, local, remote
	c.in.try = c.tryRead
	c.out.try = c.tryWrite
	c.peek = c.tryPeek
	return c, nil
}

func (c *Conn) tryRead(fd uintptr) bool {
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

func (c *tcpSocket) opError(op string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}

// Close closes the connection. Reads and writes that wait return an error.
func (c *tcpSocket) Close() error {
	c.unwatch()
	c.remember()
	err := c.file.Close()
	c.closers.run()
	return err
}

// CloseWrite sends a FIN: the half-close of one direction.
func (c *tcpSocket) CloseWrite() error {
	return c.control("shutdown", func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
}

// Reset makes Close send an RST rather than a FIN, which tells the peer that the
// stream was cut. It does not close the connection.
func (c *tcpSocket) Reset() error {
	return c.control("linger", func(fd int) error {
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	})
}

// Idle reports whether the connection is open and has nothing to read. A pool calls
// it before it reuses a connection. Only the goroutine that reads may call it.
func (c *Conn) Idle() bool {
	c.idle = false
	return c.raw.Control(c.peek) == nil && c.idle
}

func (c *Conn) tryPeek(fd uintptr) {
	c.idle = nothingToRead(fd)
}

// HungUp reports whether the peer has sent a FIN or a reset, also if there is still
// something to read.
func (c *tcpSocket) HungUp() bool {
	ended, _ := c.PeerState()
	return ended
}

// PeerState reports whether the peer has ended its side (with a FIN or a reset), and
// whether the connection is gone (by a reset, or because both sides have ended). A
// FIN alone does not say whether the peer still reads.
func (c *tcpSocket) PeerState() (ended, gone bool) {
	err := c.control("poll", func(fd int) error {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		ended = err == nil && n > 0
		gone = ended && p[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
		return nil
	})
	return err != nil || ended, err != nil || gone
}

// QuickAck makes the kernel acknowledge the received bytes at once, and those of the
// next reads too until something is written. Otherwise the kernel waits up to 40 ms
// for a write that can carry the acknowledgement, and a peer that uses Nagle's
// algorithm does not send the next part of its message until then. The effect does
// not last. A call costs one system call.
func (c *tcpSocket) QuickAck() { _ = c.raw.Control(quickAck) }

// Pending is the number of bytes that have arrived and were not read. It is 0 if the
// kernel does not tell.
func (c *tcpSocket) Pending() int {
	n := 0
	_ = c.control("ioctl", func(fd int) (err error) {
		n, err = unix.IoctlGetInt(fd, unix.TIOCINQ)
		return err
	})
	return n
}

// Settings of TCP keep-alive, which detects a dead peer of a silent connection. The
// keep-alive of the application reaches only the agent of its node.
const (
	keepAliveIdle     = 60 // seconds
	keepAliveInterval = 15
	keepAliveProbes   = 4
)

func keepAlive(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveIdle)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveInterval)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveProbes)
}

// urgentInline keeps urgent bytes (MSG_OOB) in the stream. Without it the kernel takes
// them out of the stream, and a plain read never returns them. The receiver does not
// learn that the bytes were urgent.
func urgentInline(fd int) { _ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) }

func (c *tcpSocket) control(op string, f func(fd int) error) error {
	var failure error
	if err := c.raw.Control(func(fd uintptr) { failure = f(int(fd)) }); err != nil {
		return err
	}
	return os.NewSyscallError(op, failure)
}

// Bytes returns the numbers of bytes that were read and written so far.
func (c *tcpSocket) Bytes() (read, written uint64) { return c.read.Load(), c.write.Load() }

// Local is the address of this end.
func (c *tcpSocket) Local() netip.AddrPort { return c.local }

// Remote is the address of the other end.
func (c *tcpSocket) Remote() netip.AddrPort { return c.remote }

// LocalAddr is Local for net.Conn.
func (c *tcpSocket) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr is Remote for net.Conn.
func (c *tcpSocket) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// SetDeadline sets both deadlines; the zero time means none.
func (c *tcpSocket) SetDeadline(t time.Time) error { return c.file.SetDeadline(t) }

// SetReadDeadline makes reads fail with os.ErrDeadlineExceeded after t.
func (c *tcpSocket) SetReadDeadline(t time.Time) error { return c.file.SetReadDeadline(t) }

// SetWriteDeadline makes writes fail with os.ErrDeadlineExceeded after t.
func (c *tcpSocket) SetWriteDeadline(t time.Time) error { return c.file.SetWriteDeadline(t) }

// SyscallConn gives access to the descriptor for socket options.
func (c *tcpSocket) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }
