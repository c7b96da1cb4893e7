package rawio

import (
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tcpSocket is the descriptor: its addresses and options, what the kernel knows of the
// connection, and how it ends.
type tcpSocket struct {
	raw    *descriptor
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

func (c *tcpSocket) opError(op string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}

// Close closes the connection. Reads and writes that wait return an error.
func (c *tcpSocket) Close() error {
	c.unwatch()
	c.remember()
	err := c.raw.Close()
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
func (c *tcpSocket) SetDeadline(t time.Time) error { return c.raw.SetDeadline(t) }

// SetReadDeadline makes reads fail with os.ErrDeadlineExceeded after t.
func (c *tcpSocket) SetReadDeadline(t time.Time) error { return c.raw.SetReadDeadline(t) }

// SetWriteDeadline makes writes fail with os.ErrDeadlineExceeded after t.
func (c *tcpSocket) SetWriteDeadline(t time.Time) error { return c.raw.SetWriteDeadline(t) }

// SyscallConn gives access to the descriptor for socket options.
func (c *tcpSocket) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }
