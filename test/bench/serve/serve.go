// Package serve has the servers of the benchmark. Each port does one thing with as
// little work as possible, so that the proxies are measured and not the servers.
package serve

import (
	"context"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/test/bench/work"
)

// Servers serves all ports of work.Ports on addr until ctx is done.
func Servers(ctx context.Context, addr netip.Addr) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, port := range work.Ports {
		l, err := Listen(netip.AddrPortFrom(addr, port.Number))
		if err != nil {
			return err
		}
		wg.Go(func() { Accept(ctx, l, port.Mode) })
	}
	<-ctx.Done()
	return nil
}

// Listen returns a listener at addr.
func Listen(addr netip.AddrPort) (*rawio.Listener, error) {
	family := unix.AF_INET6
	if addr.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
		if err = unix.Bind(fd, rawio.Sockaddr(addr)); err == nil {
			err = unix.Listen(fd, 4096)
		}
		if err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("listen on %s: %w", addr, err)
		}
	}
	return rawio.NewListener(fd)
}

// Accept serves connections until ctx is done and the last has ended. It closes l.
func Accept(ctx context.Context, l *rawio.Listener, mode work.Mode) {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns = map[*rawio.Conn]bool{}
	)
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() {
		l.Close()
		mu.Lock()
		defer mu.Unlock()
		for c := range conns {
			c.Close()
		}
	})
	defer stop()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return
		}
		if err != nil {
			continue // the error is of one connection only
		}
		mu.Lock()
		conns[c] = true
		mu.Unlock()
		wg.Go(func() {
			Conn(c, mode)
			c.Close()
			mu.Lock()
			delete(conns, c)
			mu.Unlock()
		})
	}
}

// Conn serves a connection until it ends.
func Conn(c *rawio.Conn, mode work.Mode) {
	switch mode {
	case work.HTTP1:
		http1(c)
	case work.Echo:
		echo(c)
	case work.Bulk:
		sink(c)
	default:
		http2(c, mode)
	}
}

func echo(c *rawio.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// sink reads everything.
func sink(c *rawio.Conn) {
	buf := make([]byte, 256<<10)
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
	}
}
