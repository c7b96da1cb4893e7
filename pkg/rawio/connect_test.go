package rawio

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/test/ports"
)

func TestConnectRefused(t *testing.T) {
	dst := ports.Reserve(t)
	if _, err := Connect(t.Context(), socket(t, dst.Addr()), dst); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("got %v", err)
	}
}

// full is a listener whose queue is full: connections to it hang.
func full(t *testing.T) netip.AddrPort {
	t.Helper()
	a := netip.MustParseAddrPort("127.0.0.1:0")
	fd := socket(t, a.Addr())
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, Sockaddr(a)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	dst := AddrPort(sa)
	failed := 0
	for range 8 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		c, err := Connect(ctx, socket(t, dst.Addr()), dst)
		cancel()
		if err == nil {
			t.Cleanup(func() { c.Close() })
		} else if failed++; failed == 3 { // one may fail because the machine is busy
			return dst
		}
	}
	t.Fatal("the listener's queue does not fill")
	return dst
}

func TestConnectGivesUp(t *testing.T) {
	dst := full(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Connect(ctx, socket(t, dst.Addr()), dst); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a deadline: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	go cancel()
	if _, err := Connect(ctx, socket(t, dst.Addr()), dst); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestCancelAfterConnect: a context that ends just as the connection is there
// leaves either an error or a connection that works.
func TestCancelAfterConnect(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	var accepted sync.WaitGroup
	accepted.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	})
	made := 0
	for i := range 500 {
		ctx, cancel := context.WithCancel(context.Background())
		go func() {
			for range i % 50 {
				_ = ctx.Err()
			}
			cancel()
		}()
		c, err := Connect(ctx, socket(t, l.Addr().Addr()), l.Addr())
		cancel()
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			continue
		}
		made++
		if err := c.raw.Write(func(uintptr) bool { return true }); err != nil {
			t.Fatalf("connection %d has a deadline left: %v", i, err)
		}
		c.Close()
	}
	t.Logf("%d of 500 connected", made)
	l.Close()
	accepted.Wait()
}

func TestAcceptAfterClose(t *testing.T) {
	l := listen(t, "127.0.0.1:0")
	done := make(chan error)
	go func() { _, err := l.Accept(); done <- err }()
	l.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// TestSocketOptions: dead peers are noticed, small writes are not held back, at
// both ends.
func TestSocketOptions(t *testing.T) {
	client, server := pair(t, "127.0.0.1:0")
	for name, c := range map[string]*Conn{"connected": client, "accepted": server} {
		var keepAlive, noDelay, idle int
		_ = c.control("get", func(fd int) (err error) {
			keepAlive, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
			noDelay, _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
			idle, err = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
			return err
		})
		if keepAlive != 1 || idle != keepAliveIdle {
			t.Errorf("%s: keep-alive %d, after %d s", name, keepAlive, idle)
		}
		if name == "accepted" && noDelay != 1 { // of the other, whoever makes the socket takes care
			t.Errorf("%s: TCP_NODELAY %d", name, noDelay)
		}
	}
}

func TestAddrPortOfMapped(t *testing.T) {
	mapped := netip.MustParseAddrPort("[::ffff:10.1.2.3]:80")
	if got := AddrPort(&unix.SockaddrInet6{Port: 80, Addr: mapped.Addr().As16()}); got != netip.MustParseAddrPort("10.1.2.3:80") {
		t.Errorf("got %v", got)
	}
	if _, ok := Sockaddr(mapped).(*unix.SockaddrInet4); !ok {
		t.Error("a v4-mapped address is IPv4 for the kernel")
	}
	if got := AddrPort(&unix.SockaddrUnix{}); got.IsValid() {
		t.Errorf("of another family: %v", got)
	}
}

// A link-local address means something only with its interface.
func TestSockaddrKeepsTheZone(t *testing.T) {
	for _, addr := range []string{"10.0.0.1:80", "[fd00::1]:80", "[fe80::1%7]:80", "[fe80::1]:80"} {
		want := netip.MustParseAddrPort(addr)
		if got := AddrPort(Sockaddr(want)); got != want {
			t.Errorf("%s comes back as %s", want, got)
		}
	}
}
