package rawio

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/ports"
)

// bound is a socket and the address that it is bound to.
func bound(t *testing.T, addr netip.Addr) (int, netip.AddrPort) {
	t.Helper()
	fd := socket(t, addr)
	if err := unix.Bind(fd, Sockaddr(netip.AddrPortFrom(addr, 0))); err != nil {
		t.Fatal(err)
	}
	local, err := LocalAddr(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, local
}

func TestConnectWithin(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l := listen(t, addr)
		fd, local := bound(t, l.Addr().Addr())
		c, err := ConnectWithin(t.Context(), fd, local, l.Addr())
		if err != nil {
			t.Fatal(err)
		}
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got := server.Remote(); got != local || c.Local() != local || c.Remote() != l.Addr() {
			t.Errorf("the server sees %v, the connection is %v to %v, want %v to %v", got, c.Local(), c.Remote(), local, l.Addr())
		}
		var inline int
		_ = c.control("get", func(fd int) (err error) {
			inline, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE)
			return err
		})
		if inline != 1 {
			t.Errorf("SO_OOBINLINE %d, want 1", inline)
		}
		if _, err := server.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 8)
		if n, err := c.Read(b); err != nil || string(b[:n]) != "hello" {
			t.Errorf("read %q, %v, want %q", b[:n], err, "hello")
		}
		c.Close()
		if n, err := server.Read(b); n != 0 || err == nil {
			t.Errorf("after the end the server reads %d bytes, %v, want EOF", n, err)
		}
		server.Close()
	}
}

func TestConnectWithinRefused(t *testing.T) {
	dst := ports.Reserve(t)
	fd, local := bound(t, dst.Addr())
	if _, err := ConnectWithin(t.Context(), fd, local, dst); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("got %v, want ECONNREFUSED", err)
	}
}

func TestConnectWithinGivesUp(t *testing.T) {
	dst := full(t)
	fd, local := bound(t, dst.Addr())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := ConnectWithin(ctx, fd, local, dst); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want DeadlineExceeded", err)
	}
}
