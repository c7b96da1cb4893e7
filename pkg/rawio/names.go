package rawio

import (
	"encoding/binary"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls that tell the addresses of sockets. The functions of x/sys/unix allocate
// the address, and ask for the protocol of each IPv4 socket by one more system call, to
// tell SCTP from TCP.

// accept takes a connection from the listening socket lfd. It never waits.
func accept(lfd uintptr) (fd int, peer netip.AddrPort, errno syscall.Errno) {
	var name sockaddr
	n, errno := name.ask(unix.SYS_ACCEPT4, lfd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	return n, name.addrPort(), errno
}

// localName returns the address that the socket fd is bound to.
func localName(fd uintptr) (netip.AddrPort, syscall.Errno) {
	var name sockaddr
	_, errno := name.ask(unix.SYS_GETSOCKNAME, fd, 0)
	return name.addrPort(), errno
}

// LocalAddr returns the address that the socket fd is bound to.
func LocalAddr(fd int) (netip.AddrPort, error) {
	addr, errno := localName(uintptr(fd))
	if errno != 0 {
		return addr, os.NewSyscallError("getsockname", errno)
	}
	return addr, nil
}

// connected returns ENOTCONN if the socket fd is not connected.
func connected(fd uintptr) syscall.Errno {
	var name sockaddr
	_, errno := name.ask(unix.SYS_GETPEERNAME, fd, 0)
	return errno
}

// sockaddr is a socket's address as the kernel gives it.
type sockaddr unix.RawSockaddrInet6 // the larger one; RawSockaddrInet4 is read from it

// ask makes a system call that takes a descriptor, and the address and its length.
func (s *sockaddr) ask(call, fd, flags uintptr) (int, syscall.Errno) {
	size := uint32(unsafe.Sizeof(*s))
	n, _, errno := syscall.RawSyscall6(call, fd, uintptr(unsafe.Pointer(s)), uintptr(unsafe.Pointer(&size)), flags, 0, 0)
	return int(n), errno
}

// addrPort is AddrPort for a sockaddr.
func (s *sockaddr) addrPort() netip.AddrPort {
	switch s.Family {
	case unix.AF_INET:
		in4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(s))
		return netip.AddrPortFrom(netip.AddrFrom4(in4.Addr), ntohs(in4.Port))
	case unix.AF_INET6:
		return netip.AddrPortFrom(inZone(netip.AddrFrom16(s.Addr).Unmap(), s.Scope_id), ntohs(s.Port))
	}
	return netip.AddrPort{}
}

// ntohs converts a number from the byte order of the network.
func ntohs(n uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], n)
	return binary.BigEndian.Uint16(b[:])
}

// inZone gives a link-local address the interface that it is valid at. 0: none.
func inZone(addr netip.Addr, zone uint32) netip.Addr {
	if zone == 0 {
		return addr
	}
	return addr.WithZone(strconv.FormatUint(uint64(zone), 10))
}
