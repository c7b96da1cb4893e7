// Package ports reserves ports of loopback for tests that need a port without a
// listener, or with a listener for some of the time. A port that was free a moment
// ago may be in use now, because the kernel gives random ports to other tests and
// processes all the time.
package ports

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Reserve returns an address without a listener. The kernel does not give its port
// to anyone else until the end of the test. The test may listen there, also several
// times.
func Reserve(t testing.TB) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	// A bound socket that does not listen allows others to listen if they set the
	// same option, as net.Listen does.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	loopback := [4]byte{127, 0, 0, 1}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback}); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(loopback), uint16(bound.(*unix.SockaddrInet4).Port))
}
