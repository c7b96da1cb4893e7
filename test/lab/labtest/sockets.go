package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// urgentText is what each side of urgent sends: the "!" is urgent.
var urgentText = []struct {
	text  string
	flags int
}{{"ab", 0}, {"c!", unix.MSG_OOB}, {"de", 0}}

func urgent() *cobra.Command {
	var listen, inline bool
	cmd := &cobra.Command{
		Use: "urgent ADDR", Args: cobra.ExactArgs(1),
		Short: "Connect to ADDR, or with --listen accept one connection there, send some bytes, one of them urgent (MSG_OOB), and print what came",
		RunE: func(cmd *cobra.Command, args []string) error {
			var c net.Conn
			var err error
			if listen {
				var l net.Listener
				if l, err = net.Listen("tcp", args[0]); err != nil {
					return err
				}
				defer l.Close()
				fmt.Println("listening on", l.Addr())
				c, err = l.Accept()
			} else {
				var d net.Dialer
				c, err = d.DialContext(cmd.Context(), "tcp", args[0])
			}
			if err != nil {
				return err
			}
			defer c.Close()
			return exchangeUrgent(c.(*net.TCPConn), inline)
		},
	}
	cmd.Flags().BoolVar(&listen, "listen", false, "accept")
	cmd.Flags().BoolVar(&inline, "inline", false, "read urgent bytes in their place (SO_OOBINLINE)")
	return cmd
}

func exchangeUrgent(c *net.TCPConn, inline bool) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = raw.Control(func(fd uintptr) {
		if inline {
			failure = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
		}
		for _, part := range urgentText {
			failure = errors.Join(failure, unix.Sendto(int(fd), []byte(part.text), part.flags, nil))
		}
	})
	if err = errors.Join(err, failure, c.CloseWrite()); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	got, err := io.ReadAll(c)
	fmt.Printf("%q\n", got)
	return err
}

func oneSource() *cobra.Command {
	return &cobra.Command{
		Use: "one-source PORT ADDR…", Args: cobra.MinimumNArgs(2),
		Short: "Connect from one local port to each ADDR, an echo server, at the same time, and exchange a line with each",
		RunE: func(cmd *cobra.Command, args []string) error {
			d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
				var failure error
				err := raw.Control(func(fd uintptr) {
					failure = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
				})
				return errors.Join(err, failure)
			}}
			ctx, cancel := context.WithTimeout(cmd.Context(), 30*time.Second)
			defer cancel()
			local, err := net.ResolveTCPAddr("tcp", ":"+args[0])
			if err != nil {
				return err
			}
			d.LocalAddr = local
			var conns []net.Conn
			for _, addr := range args[1:] {
				c, err := d.DialContext(ctx, "tcp", addr)
				if err != nil {
					return err
				}
				defer c.Close()
				conns = append(conns, c)
			}
			for i, c := range conns {
				_ = c.SetDeadline(time.Now().Add(30 * time.Second))
				line := fmt.Sprintf("hello %s\n", args[1+i])
				if _, err := io.WriteString(c, line); err != nil {
					return err
				}
				got := make([]byte, len(line))
				if _, err := io.ReadFull(c, got); err != nil || string(got) != line {
					return fmt.Errorf("%s answered %q, %w", args[1+i], got, err)
				}
				fmt.Printf("%s %s %s", c.LocalAddr(), c.RemoteAddr(), got)
			}
			return nil
		},
	}
}
