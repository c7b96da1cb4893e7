package rawio

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of a connection's bytes. They are those of sockets: read and
// write do the same after a detour through the file system.

// receive reads what is there; it never waits.
func receive(fd uintptr, p []byte, flags uintptr) (int, syscall.Errno) {
	return raw(unix.SYS_RECVFROM, fd, p, unix.MSG_DONTWAIT|flags)
}

// send writes what the socket takes; it never waits.
func send(fd uintptr, p []byte) (int, syscall.Errno) {
	return raw(unix.SYS_SENDTO, fd, p, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// nothingToRead reports whether the peer has neither said anything nor gone.
func nothingToRead(fd uintptr) bool {
	var b [1]byte
	_, errno := receive(fd, b[:], unix.MSG_PEEK)
	return errno == unix.EAGAIN
}

// quickAck sends an acknowledgement that is due, and ends the delay of further
// ones (tcp(7), TCP_QUICKACK).
func quickAck(fd uintptr) {
	on := int32(1)
	_, _, _ = syscall.RawSyscall6(unix.SYS_SETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, uintptr(unsafe.Pointer(&on)), unsafe.Sizeof(on), 0)
}

func raw(call, fd uintptr, p []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}
