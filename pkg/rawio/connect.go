package rawio

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Connect connects fd, a new non-blocking TCP socket of dst's family, to dst and takes
// ownership of it. It closes fd if it fails. When ctx is done it returns ctx.Err().
func Connect(ctx context.Context, fd int, dst netip.AddrPort) (*Conn, error) {
	err := unix.Connect(fd, Sockaddr(dst))
	c, err := finish(ctx, fd, netip.AddrPort{}, dst, err)
	if err != nil {
		return nil, err
	}
	keepAlive(fd)
	c.local, _ = localName(uintptr(fd)) // it fails for no socket
	return c, nil
}

// ConnectWithin is Connect for a socket that is bound to local, where dst is in the same
// network namespace. There the kernel completes the handshake before connect returns if the
// server listens, so usually nothing waits. The connection has no keep-alive: its peer cannot
// vanish without a FIN or a reset.
func ConnectWithin(ctx context.Context, fd int, local, dst netip.AddrPort) (*Conn, error) {
	err := unix.Connect(fd, Sockaddr(dst))
	if err == unix.EINPROGRESS && connected(uintptr(fd)) == 0 {
		err = nil
	}
	return finish(ctx, fd, local, dst, err)
}

// finish makes a Conn of a socket when it is connected. err is what connect returned.
func finish(ctx context.Context, fd int, local, dst netip.AddrPort, err error) (*Conn, error) {
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	c, nerr := NewConn(fd, local, dst)
	if nerr != nil {
		return nil, nerr
	}
	if err == unix.EINPROGRESS {
		if err := c.awaitConnected(ctx); err != nil {
			c.Close()
			return nil, err
		}
	}
	urgentInline(fd)
	boundUnsent(fd, unsentAtFirst)
	return c, nil
}

func (c *writer) awaitConnected(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.raw.SetWriteDeadline(deadline)
	}
	// A deadline in the past wakes a write that waits.
	stop := context.AfterFunc(ctx, func() { _ = c.raw.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	var failure error
	err := c.raw.Write(func(fd uintptr) bool {
		soerr, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil {
			failure = os.NewSyscallError("getsockopt", err)
			return true
		}
		if soerr != 0 {
			failure = os.NewSyscallError("connect", unix.Errno(soerr))
			return true
		}
		// The netpoller may wake up without a cause, so ask the kernel.
		return connected(fd) == 0
	})
	if failure != nil {
		return failure
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if os.IsTimeout(err) {
			return context.DeadlineExceeded
		}
		return fmt.Errorf("connect: %w", err)
	}
	if !stop() {
		return ctx.Err() // the callback may be about to set the deadline in the past
	}
	return c.raw.SetWriteDeadline(time.Time{})
}

// Sockaddr converts addr for the kernel: to AF_INET for IPv4 (also v4-mapped), to
// AF_INET6 otherwise. A zone must be the index of an interface in the network
// namespace of the socket.
func Sockaddr(addr netip.AddrPort) unix.Sockaddr {
	ip := addr.Addr().Unmap()
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: ip.As4()}
	}
	sa := &unix.SockaddrInet6{Port: int(addr.Port()), Addr: ip.As16()}
	if zone := ip.Zone(); zone != "" {
		n, _ := strconv.ParseUint(zone, 10, 32)
		sa.ZoneId = uint32(n)
	}
	return sa
}

// AddrPort is the inverse of Sockaddr. It returns a v4-mapped address as IPv4, and the
// zero AddrPort for another address family.
func AddrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(inZone(netip.AddrFrom16(sa.Addr).Unmap(), sa.ZoneId), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
