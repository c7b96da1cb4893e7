package rawio

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls that move a connection's bytes. They are recvfrom and sendto:
// read and write do the same, but go through the file system layer first.

// receive reads the bytes that have arrived. It never waits.
func receive(fd uintptr, p []byte, flags uintptr) (int, syscall.Errno) {
	return raw(unix.SYS_RECVFROM, fd, p, unix.MSG_DONTWAIT|flags)
}

// send writes as many bytes as the socket accepts. It never waits.
func send(fd uintptr, p []byte) (int, syscall.Errno) {
	return raw(unix.SYS_SENDTO, fd, p, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// nothingToRead reports whether the peer has sent no byte and no end of the
// connection that was not read.
func nothingToRead(fd uintptr) bool {
	var b [1]byte
	_, errno := receive(fd, b[:], unix.MSG_PEEK)
	return errno == unix.EAGAIN
}

// quickAck sends a delayed acknowledgement now and turns the delay off for the next
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
