package rawio

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listener accepts TCP connections.
type Listener struct {
	file *os.File
	raw  syscall.RawConn
	addr netip.AddrPort
}

// NewListener takes ownership of a listening, non-blocking socket. It closes the
// socket if it fails.
func NewListener(fd int) (*Listener, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listener: getsockname: %w", err)
	}
	// Accepted connections inherit these.
	keepAlive(fd)
	urgentInline(fd)
	boundUnsent(fd, unsentAtFirst)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	file := os.NewFile(uintptr(fd), "tcp-listener")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("listener: %w", err)
	}
	return &Listener{file: file, raw: raw, addr: AddrPort(sa)}, nil
}

// Accept waits for a connection. The connection's Local address is the one that the
// client connected to, which is not the listener's address where sk_lookup has assigned
// the connection. The error is net.ErrClosed after Close. Any other error concerns a
// single connection or a temporary shortage: call Accept again.
func (l *Listener) Accept() (*Conn, error) {
	var (
		fd      int
		peer    netip.AddrPort
		failure syscall.Errno
	)
	err := l.raw.Read(func(lfd uintptr) bool {
		for {
			fd, peer, failure = accept(lfd)
			switch failure {
			case unix.EINTR, unix.ECONNABORTED:
				continue
			case unix.EAGAIN:
				return false
			}
			return true
		}
	})
	if err != nil {
		return nil, fmt.Errorf("accept: %w (%w)", net.ErrClosed, err)
	}
	if failure != 0 {
		return nil, os.NewSyscallError("accept4", failure)
	}
	local, failure := localName(uintptr(fd))
	if failure != 0 {
		unix.Close(fd)
		return nil, os.NewSyscallError("getsockname", failure)
	}
	return NewConn(fd, local, peer)
}

// Addr is the address that the listener is bound to.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// Close closes the listener. An Accept that waits returns net.ErrClosed.
func (l *Listener) Close() error { return l.file.Close() }

// Control calls f with the descriptor, which is open until f returns. It fails after
// Close.
func (l *Listener) Control(f func(fd int) error) error {
	var failure error
	if err := l.raw.Control(func(fd uintptr) { failure = f(int(fd)) }); err != nil {
		return err
	}
	return failure
}

// Exhausted reports whether an accept failed because the process or the machine has no
// descriptor or no memory left.
func Exhausted(err error) bool {
	for _, errno := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
