package rawio

import (
	"errors"

	"golang.org/x/sys/unix"
)

// RawConn.Read forgets, when it begins, what the netpoller has noticed since its last wait. So
// it has to try a system call before it waits, and between two messages that one finds
// nothing. A read of a kept connection makes no such call if the last one has emptied the
// socket: it waits at once, and what the netpoller has noticed meanwhile ends the wait.
//
// A read that returns fewer bytes than it has room for has emptied the socket (epoll(7)). The
// end of the stream is an exception: if it has arrived together with the last bytes, it was
// noticed together with them, and does not end the next wait. So only connections that Hangups
// watch are kept. After the Hangups have told the end, each read tries before it waits.
//
// A read also returns early before an urgent byte (tcp(7)). What is behind it is read when
// more arrives.

// keep makes the connection a kept one. Hangups watch it from now on, or unkeep is called.
func keep(c *tcpSocket) { c.kept.Store(pollDesc(c.raw) != 0) }

// unkeep is called when the Hangups watch the connection no more.
func unkeep(c *tcpSocket) {
	c.kept.Store(false)
	peerEnded(c) // before they could tell it
}

// peerEnded is called by Hangups. It makes a read that waits try again.
func peerEnded(c *tcpSocket) {
	if ended, _ := c.PeerState(); !ended || c.ended.Swap(true) {
		return // another connection had the descriptor's number, or it was told already
	}
	// No more bytes come, so this changes nothing, but it wakes what waits for the socket, also
	// if the connection is gone (Linux, inet_shutdown).
	_ = c.control("shutdown", func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RD) })
}

// errTwoReaders: the runtime ends the program if two goroutines wait to read from a descriptor.
var errTwoReaders = errors.New("two goroutines read from a connection")

// readKept is Read for a kept connection. The result is in c.in.
func (c *Conn) readKept() error {
	if err := c.raw.Control(c.callback()); err != nil {
		return err
	}
	if c.in.n < 0 {
		return pollError(-c.in.n)
	}
	return nil
}

// tryReadKept reads, after a wait if necessary. After a failed wait c.in.n is less than 0.
func (c *Conn) tryReadKept(fd uintptr) {
	op := &c.in
	for wait := c.emptied && !c.ended.Load(); ; wait = true {
		code := 0
		if wait {
			op.pause()
			code = runtimePollWait(pollDesc(c.raw), 'r')
		}
		n, errno := 0, unix.EAGAIN
		if code == 0 || code == pollFailed { // the read of a connection that has failed says why
			n, errno = receive(fd, op.buf, 0)
		}
		switch {
		case errno != unix.EAGAIN:
			c.emptied = n > 0 && n < len(op.buf)
			op.n, op.err = max(n, 0), errno
			return
		case code != 0:
			op.n, op.err = -code, 0
			return
		}
	}
}
