package redirect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"golang.org/x/sys/unix"
)

// dialFrom connects as an application does that binds its address and port first.
// An IPv6 source and an IPv4-mapped destination make an IPv6 socket.
func dialFrom(t *testing.T, r *rig, src, dst netip.AddrPort) (*rawio.Conn, error) {
	t.Helper()
	var fd int
	err := r.pod.Do(func() (err error) {
		family := unix.AF_INET6
		if src.Addr().Is4() {
			family = unix.AF_INET
		}
		fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, rawio.Sockaddr(src))
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if !dst.Addr().Is4In6() {
		return rawio.Connect(ctx, fd, dst)
	}
	err = unix.Connect(fd, &unix.SockaddrInet6{Addr: dst.Addr().As16(), Port: int(dst.Port())})
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return nil, err
	}
	return rawio.NewConn(fd, netip.AddrPort{}, dst)
}

// TestOneSourceManyDestinations: a program may connect one address and port to
// several destinations. Only the same destination twice is refused, as without us.
func TestOneSourceManyDestinations(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	for i, tc := range []struct {
		name     string
		src      netip.Addr
		dsts     string
		listener int
		own      netip.Addr
	}{
		{"IPv4, any address", netip.IPv4Unspecified(), "192.0.2.%d", 0, pod4},
		{"IPv4, the pod's address", pod4, "192.0.2.%d", 0, pod4},
		{"IPv6, any address", netip.IPv6Unspecified(), "2001:db8::%d", 1, pod6},
		{"IPv6, the pod's address", pod6, "2001:db8::%d", 1, pod6},
		{"IPv4 of an IPv6 socket", netip.IPv6Unspecified(), "::ffff:192.0.2.%d", 0, pod4},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src := netip.AddrPortFrom(tc.src, uint16(23000+i))
			for n := range 40 {
				addr := netip.MustParseAddr(fmt.Sprintf(tc.dsts, 1+n/2))
				dst := netip.AddrPortFrom(addr, uint16(80+n%2)) // two ports of each address
				client, err := dialFrom(t, r, src, dst)
				if err != nil {
					t.Fatalf("from %s to %s, after %d others: %v", src, dst, n, err)
				}
				t.Cleanup(func() { client.Close() })
				server := accept(t, r.enrolled.Outbound[tc.listener])
				want := netip.AddrPortFrom(addr.Unmap(), dst.Port())
				if got, ok := original(r.enrolled, server); !ok || got.Addr != want {
					t.Fatalf("original destination: got %s, %v, want %s", got.Addr, ok, want)
				}
				local, remote := names(t, client)
				if remote != want || local != netip.AddrPortFrom(tc.own, src.Port()) {
					t.Errorf("the application sees itself as %s and its peer as %s, want %s:%d and %s", local, remote, tc.own, src.Port(), want)
				}
				if _, err := client.Write([]byte("x")); err != nil {
					t.Error(err)
				}
				if n, err := server.Read(make([]byte, 2)); n != 1 {
					t.Errorf("read %d bytes, %v", n, err)
				}
			}
			first := netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf(tc.dsts, 1)), 80)
			if c, err := dialFrom(t, r, src, first); err == nil {
				c.Close()
				t.Errorf("a second connection from %s to %s", src, first)
			} else if !errors.Is(err, unix.EADDRNOTAVAIL) {
				t.Errorf("a second connection from %s to %s: %v, want %v", src, first, err, unix.EADDRNOTAVAIL)
			}
		})
	}
}

// What a pod connects to at loopback, from whatever port, is its own.
func TestLoopbackIsLeftAlone(t *testing.T) {
	r := newRig(t, mesh.Settings{})
	for _, dst := range []string{"127.128.0.9:15001", "127.0.0.1:8080", "[::1]:8080", "127.200.1.1:8080"} {
		addr := netip.MustParseAddrPort(dst)
		own := listen(t, r.pod, addr.Addr(), addr.Port())
		src := netip.IPv4Unspecified()
		if addr.Addr().Is6() {
			src = netip.IPv6Unspecified()
		}
		for _, from := range []netip.AddrPort{netip.AddrPortFrom(src, 0), netip.AddrPortFrom(src, 24000)} {
			c, err := dialFrom(t, r, from, own.Addr())
			if err != nil {
				t.Fatalf("from %s to %s: %v", from, own.Addr(), err)
			}
			accept(t, own)
			c.Close()
		}
	}
}
