package rawio

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// After a reset, the first call on the socket gets the error of the connection, and a read
// after it the end of the stream, as after a FIN. If a write of another goroutine comes
// first, the reader alone cannot tell that the stream was cut.

// sent notes how a write has ended. If the peer had sent a FIN before its reset, the error
// is EPIPE (Linux, tcp_reset): the stream has ended in an orderly way then.
func (c *writer) sent(errno syscall.Errno) {
	if errno != 0 && errno != unix.EPIPE {
		c.cut.Store(true)
	}
}

// Cut reports whether the stream that Read returns was cut, after Read has returned io.EOF:
// a write got the error that says so. It costs a system call, and waits for a write that is
// about to return.
func (c *writer) Cut() bool {
	if c.cut.Load() {
		return true
	}
	if _, gone := c.PeerState(); !gone {
		return false
	}
	// No write waits on a connection that is gone, but one may have the error and not have
	// noted it yet.
	_ = c.raw.Write(func(uintptr) bool { return true })
	return c.cut.Load()
}
