package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/spf13/cobra"
)

// bridge connects a test to the pod's network. The clients and servers of the
// test then run in the test's process, with the pod's addresses.
func bridge() *cobra.Command {
	var listen, network string
	cmd := &cobra.Command{
		Use: "bridge SOCKET", Args: cobra.ExactArgs(1),
		Short: "Bridge TCP of the pod and a unix socket, until standard input ends. Without --listen: take connections at SOCKET, " +
			"read HOST:PORT and a newline, dial it, answer OK LOCAL REMOTE or ERR CAUSE, and pass bytes. With --listen: pass " +
			"each connection that comes to SOCKET, after a line REMOTE LOCAL",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			go func() {
				_, _ = io.Copy(io.Discard, os.Stdin)
				cancel()
			}()
			if listen != "" {
				return bridgeIn(ctx, network, listen, args[0])
			}
			return bridgeOut(ctx, args[0])
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "", "TCP address in the pod")
	cmd.Flags().StringVar(&network, "network", "tcp", "with --listen: tcp4 or tcp6 for one family alone")
	return cmd
}

func bridgeOut(ctx context.Context, socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	return bridgeLoop(ctx, l, func(c net.Conn) error {
		r := bufio.NewReader(c)
		addr, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		var d net.Dialer
		up, err := d.DialContext(ctx, "tcp", strings.TrimSpace(addr))
		if err != nil {
			fmt.Fprintf(c, "ERR %v\n", err)
			return nil
		}
		defer up.Close()
		if _, err := fmt.Fprintf(c, "OK %s %s\n", up.LocalAddr(), up.RemoteAddr()); err != nil {
			return err
		}
		early, _ := r.Peek(r.Buffered())
		if _, err := up.Write(early); err != nil {
			return err
		}
		pass(c.(*net.UnixConn), up.(*net.TCPConn))
		return nil
	})
}

func bridgeIn(ctx context.Context, network, listen, socket string) error {
	l, err := net.Listen(network, listen)
	if err != nil {
		return err
	}
	return bridgeLoop(ctx, l, func(c net.Conn) error {
		up, err := net.Dial("unix", socket)
		if err != nil {
			return err
		}
		defer up.Close()
		if _, err := fmt.Fprintf(up, "%s %s\n", c.RemoteAddr(), c.LocalAddr()); err != nil {
			return err
		}
		pass(up.(*net.UnixConn), c.(*net.TCPConn))
		return nil
	})
}

func bridgeLoop(ctx context.Context, l net.Listener, serve func(net.Conn) error) error {
	fmt.Println("bridge listening on", l.Addr())
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		go func() {
			defer c.Close()
			if err := serve(c); err != nil {
				fmt.Fprintln(os.Stderr, "bridge:", err)
			}
		}()
	}
}

// pass copies bytes both ways. An end of one direction is passed on as such, and a
// connection that failed is reset. A closed unix socket is also passed on as a
// reset, because it looks the same as a peer that is gone.
func pass(u *net.UnixConn, t *net.TCPConn) {
	var down sync.WaitGroup
	down.Go(func() {
		if _, err := io.Copy(u, t); err != nil {
			u.Close() // a unix socket has no other way to signal it
			_ = t.SetLinger(0)
			t.Close()
			return
		}
		_ = u.CloseWrite()
	})
	if _, err := io.Copy(t, u); err != nil && !errors.Is(err, net.ErrClosed) {
		_ = t.SetLinger(0)
		t.Close()
	}
	_ = t.CloseWrite()
	down.Wait()
}
