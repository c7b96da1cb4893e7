// Package ports keeps ports of loopback for tests, where nobody listens or not
// all the time. One that was free a moment ago may be somebody else's by now:
// other tests, of other processes too, are given ports at random all the while.
package ports

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Reserve returns an address at which nobody listens, and whose port nobody else
// is given until the test is over. Those who know it may listen there, also one
// after the other.
func Reserve(t testing.TB) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	// A bound socket that does not listen is in nobody's way who says the same,
	// as net.Listen does.
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
