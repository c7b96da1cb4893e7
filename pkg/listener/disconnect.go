package listener

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// disconnect is connect(2) to an address of the family AF_UNSPEC.
func disconnect(fd int) error {
	addr := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, errno := syscall.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&addr)), unsafe.Sizeof(addr))
	if errno != 0 {
		return os.NewSyscallError("connect", errno)
	}
	return nil
}
