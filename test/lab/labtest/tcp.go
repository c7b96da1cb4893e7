package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// serveTCP accepts connections until ctx ends and passes them to serve, which need
// not close them.
func serveTCP(ctx context.Context, what, addr string, serve func(*net.TCPConn) error) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println(what, "listening on", l.Addr())
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "accept:", err)
			time.Sleep(10 * time.Millisecond) // out of file descriptors: wait for some to be closed
			continue
		}
		go func() {
			defer c.Close()
			if err := serve(c.(*net.TCPConn)); err != nil {
				fmt.Fprintf(os.Stderr, "%s: %s: %v\n", what, c.RemoteAddr(), err)
			}
		}()
	}
}

func tcpServer(use, short, defaultAddr string, serve func(*net.TCPConn) error) *cobra.Command {
	var addr string
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serveTCP(cmd.Context(), use, addr, serve) },
	}
	cmd.Flags().StringVar(&addr, "listen", defaultAddr, "address")
	return cmd
}

func echoServer() *cobra.Command {
	return tcpServer("echo", "TCP: send back what comes; half-close is answered by half-close", ":7000", serveEcho)
}

func serveEcho(c *net.TCPConn) error {
	if _, err := io.Copy(c, c); err != nil {
		return err
	}
	return c.CloseWrite()
}

func bannerServer() *cobra.Command {
	return tcpServer("banner", "TCP: the server speaks first: one line with its host name and the client's address, then echo", ":7001", serveBanner)
}

func serveBanner(c *net.TCPConn) error {
	host, _ := os.Hostname()
	if _, err := fmt.Fprintf(c, "220 %s ready, client %s\r\n", host, c.RemoteAddr()); err != nil {
		return err
	}
	return serveEcho(c)
}

func sinkServer() *cobra.Command {
	return tcpServer("sink", "TCP: read to the end, then answer one line: length and SHA-256", ":7002", serveSink)
}

func serveSink(c *net.TCPConn) error {
	h := sha256.New()
	n, err := io.Copy(h, c)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c, "%d %x\n", n, h.Sum(nil))
	return err
}

func allServers() *cobra.Command {
	return &cobra.Command{
		Use: "all", Short: "Every server at once, at its usual port: http :8080, echo :7000, banner :7001, sink :7002, grpc health :9090", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			errs := make(chan error, 5)
			go func() { errs <- serveTCP(ctx, "echo", ":7000", serveEcho) }()
			go func() { errs <- serveTCP(ctx, "banner", ":7001", serveBanner) }()
			go func() { errs <- serveTCP(ctx, "sink", ":7002", serveSink) }()
			go func() { errs <- serveHTTP(ctx, ":8080", "") }()
			go func() { errs <- serveHealth(ctx, ":9090") }()
			err := <-errs
			cancel()
			for range 4 {
				err = errors.Join(err, <-errs)
			}
			return err
		},
	}
}

// dialTCP connects, and prints to stderr the two addresses as an application sees
// them.
func dialTCP(ctx context.Context, addr string, timeout time.Duration) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: timeout}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(os.Stderr, "connected %s -> %s\n", c.LocalAddr(), c.RemoteAddr())
	return c.(*net.TCPConn), nil
}

func dial() *cobra.Command {
	var timeout time.Duration
	var reset bool
	cmd := &cobra.Command{
		Use: "dial HOST:PORT", Short: "TCP: standard input goes there, the answer to standard output; the end of input half-closes", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dialTCP(cmd.Context(), args[0], timeout)
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(timeout))
			if reset {
				return cut(c)
			}
			sent := make(chan error, 1)
			go func() {
				_, err := io.Copy(c, os.Stdin)
				sent <- errors.Join(err, c.CloseWrite())
			}()
			if _, err := io.Copy(os.Stdout, c); err != nil {
				return fmt.Errorf("receive: %w", err)
			}
			select { // the server may end first, while our input is still open
			case err := <-sent:
				return err
			default:
				return nil
			}
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "of the connection and of the whole")
	cmd.Flags().BoolVar(&reset, "reset", false, "send a line, wait for the first byte of the answer, and reset the connection")
	return cmd
}

func cut(c *net.TCPConn) error {
	if _, err := io.WriteString(c, "to be cut\n"); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		return err
	}
	return c.SetLinger(0)
}

func send() *cobra.Command {
	var size int64
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "send HOST:PORT", Short: "TCP: send bytes to a sink and check its answer", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dialTCP(cmd.Context(), args[0], timeout)
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(timeout))
			h := sha256.New()
			if _, err := io.Copy(io.MultiWriter(c, h), io.LimitReader(&pattern{}, size)); err != nil {
				return fmt.Errorf("send: %w", err)
			}
			if err := c.CloseWrite(); err != nil {
				return err
			}
			answer, err := io.ReadAll(c)
			if err != nil {
				return fmt.Errorf("receive: %w", err)
			}
			if want := fmt.Sprintf("%d %x\n", size, h.Sum(nil)); string(answer) != want {
				return fmt.Errorf("the sink got %q, want %q", answer, want)
			}
			fmt.Printf("%s", answer)
			return nil
		},
	}
	cmd.Flags().Int64Var(&size, "bytes", 1<<20, "how many")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "of the whole")
	return cmd
}

// pattern is an endless stream of bytes with a long period, so that a lost or
// repeated block is detected.
type pattern struct{ x uint64 }

func (p *pattern) Read(b []byte) (int, error) {
	for i := range b {
		p.x = p.x*6364136223846793005 + 1442695040888963407
		b[i] = byte(p.x >> 56)
	}
	return len(b), nil
}

func hold() *cobra.Command {
	var interval, timeout time.Duration
	var least int
	cmd := &cobra.Command{
		Use: "hold HOST:PORT", Short: "TCP: keep one connection to an echo server and use it, until standard input ends; print how often it worked", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dialTCP(cmd.Context(), args[0], timeout)
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := context.WithCancel(cmd.Context())
			go func() {
				io.Copy(io.Discard, os.Stdin)
				cancel()
			}()
			r := bufio.NewReader(c)
			for n := 0; ; n++ {
				c.SetDeadline(time.Now().Add(timeout))
				line := fmt.Sprintf("ping %d\n", n)
				if _, err := io.WriteString(c, line); err != nil {
					return fmt.Errorf("after %d rounds: %w", n, err)
				}
				if back, err := r.ReadString('\n'); err != nil || back != line {
					return fmt.Errorf("after %d rounds: got %q: %w", n, back, err)
				}
				if n == 0 {
					fmt.Println("holding") // tells the caller that the connection is open
				}
				select {
				case <-ctx.Done():
					if n+1 < least {
						continue
					}
					fmt.Printf("rounds %d\n", n+1)
					return nil
				case <-time.After(interval):
				}
			}
		},
	}
	cmd.Flags().DurationVar(&interval, "interval", 20*time.Millisecond, "between rounds")
	cmd.Flags().DurationVar(&timeout, "timeout", 15*time.Second, "of a round")
	cmd.Flags().IntVar(&least, "rounds", 1, "least number of rounds, whenever standard input ends")
	return cmd
}
