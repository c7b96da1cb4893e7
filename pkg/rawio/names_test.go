package rawio

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNames: the addresses of both ends are those that the net package knows: for IPv4, for
// IPv6, and for IPv4 at a socket of IPv6.
func TestNames(t *testing.T) {
	for _, test := range []struct{ listen, dial string }{
		{"127.0.0.1:0", "127.0.0.1"},
		{"[::1]:0", "::1"},
		{"[::]:0", "127.0.0.1"},
	} {
		addr := netip.MustParseAddrPort(test.listen)
		family := unix.AF_INET6
		if addr.Addr().Is4() {
			family = unix.AF_INET
		}
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if family == unix.AF_INET6 {
			_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
		}
		if err := unix.Bind(fd, Sockaddr(addr)); err != nil {
			t.Fatal(err)
		}
		if err := unix.Listen(fd, 8); err != nil {
			t.Fatal(err)
		}
		l, err := NewListener(fd)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		want := netip.AddrPortFrom(netip.MustParseAddr(test.dial), l.Addr().Port())
		client, err := net.Dial("tcp", want.String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := c.Local(); got != want {
			t.Errorf("%+v: got local %v, want %v", test, got, want)
		}
		if got, want := c.Remote(), client.LocalAddr().(*net.TCPAddr).AddrPort(); got != want {
			t.Errorf("%+v: got remote %v, want %v", test, got, want)
		}
	}
}

// TestNameKeepsTheZone is TestSockaddrKeepsTheZone for what the kernel writes.
func TestNameKeepsTheZone(t *testing.T) {
	want := netip.MustParseAddrPort("[fe80::1%7]:8080")
	name := sockaddr{Family: unix.AF_INET6, Port: ntohs(8080), Addr: want.Addr().As16(), Scope_id: 7}
	if got := name.addrPort(); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
