// Package wait is the command wait, which ends when a server answers. In a meshed
// pod it is not enough that a connection opens, because the node's agent accepts
// the connection before it has reached the server.
package wait

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// waiter waits for servers.
type waiter struct {
	settle   time.Duration // how long a connection must stay open if the server sends nothing
	every    time.Duration // between attempts
	dial     time.Duration // limit of a connect()
	progress io.Writer
}

// responseTime limits the time for one request before the next attempt. The server
// may have vanished without closing the connection.
const responseTime = 30 * time.Second

// Command is `wait TARGET...`. program is the name of the command line.
func Command(program string) *cobra.Command {
	w := waiter{every: time.Second, dial: 5 * time.Second}
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait HOST:PORT|URL...",
		Short: "Wait until servers answer, and not only the agent in front of them",
		Long: `Wait until servers answer, and not only the agent in front of them.

HOST:PORT is any server of TCP. It answers when it speaks first, when it ends a
connection on which its client has said all, or when the connection stands for
--settle. One that resets such a connection needs a URL.

http://HOST[:PORT][/PATH] is a server of HTTP/1. It answers with any status, to GET,
but for responses of an agent (underlane-reason).`,
		Example: "  " + program + " wait db:5432 cache:6379\n  " + program + " wait --timeout 2m http://web.shop/healthz",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w.progress = cmd.ErrOrStderr()
			ctx := cmd.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
			}
			for _, target := range args {
				if _, err := w.attempt(target); err != nil {
					return err
				}
			}
			for _, target := range args {
				if err := w.wait(ctx, target); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait for all of them; 0 waits for ever")
	cmd.Flags().DurationVar(&w.settle, "settle", 10*time.Second, "how long a connection must stand when the server says nothing; an agent gives up an endpoint that does not answer after 5s")
	return cmd
}

// wait makes attempts until one succeeds, and prints why they fail.
func (w *waiter) wait(ctx context.Context, target string) error {
	attempt, err := w.attempt(target)
	if err != nil {
		return err
	}
	start, last := time.Now(), ""
	for {
		err := attempt(ctx)
		if err == nil {
			fmt.Fprintf(w.progress, "%s answers, after %s\n", target, time.Since(start).Round(time.Millisecond))
			return nil
		}
		over := isOver(ctx) // err may then say only that the time has passed
		if last == "" || !over && err.Error() != last {
			last = err.Error()
			if !over {
				fmt.Fprintf(w.progress, "waiting for %s: %s\n", target, last)
			}
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%s does not answer after %s: %s", target, time.Since(start).Round(time.Second), last)
			}
			return ctx.Err()
		case <-time.After(w.every):
		}
	}
}

// isOver reports whether ctx has ended or its deadline has passed. A dial fails at
// the deadline, shortly before the context itself ends.
func isOver(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// attempt returns a function that makes one attempt at a target.
func (w *waiter) attempt(target string) (func(context.Context) error, error) {
	if host, port, err := net.SplitHostPort(target); err == nil && host != "" && port != "" && !strings.Contains(target, "://") {
		return func(ctx context.Context) error { return w.tcp(ctx, target) }, nil
	}
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("%q: want HOST:PORT or http://HOST[:PORT][/PATH]", target)
	}
	return func(ctx context.Context) error { return w.http(ctx, target) }, nil
}

// tcp connects and closes its sending side. The agent resets the connection when it
// cannot reach the server. A server closes the connection or keeps it open.
func (w *waiter) tcp(ctx context.Context, address string) error {
	dialer := net.Dialer{Timeout: w.dial}
	c, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return cause(err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now()) })()
	if c.(*net.TCPConn).CloseWrite() != nil {
		return errReset
	}
	_ = c.SetReadDeadline(time.Now().Add(w.settle))
	_, err = c.Read(make([]byte, 1))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	}
	return errReset
}

var errReset = errors.New("the connection was accepted, and then reset")

// cause returns the cause of err without the local port, which differs in each
// attempt.
func cause(err error) error {
	var dns *net.DNSError
	var errno syscall.Errno
	switch {
	case errors.As(err, &dns):
		return fmt.Errorf("the name %s has no address, or DNS does not answer", dns.Name)
	case errors.As(err, &errno):
		return errno
	}
	return err
}

// http sends one request, and follows no redirect.
func (w *waiter) http(ctx context.Context, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "underlane-wait")
	transport := &http.Transport{
		DisableKeepAlives: true, ResponseHeaderTimeout: responseTime,
		DialContext: (&net.Dialer{Timeout: w.dial}).DialContext,
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return cause(err)
	}
	defer response.Body.Close()
	if reason := response.Header.Get("Underlane-Reason"); reason != "" {
		return fmt.Errorf("an agent answers %s, %s", response.Status, reason)
	}
	return nil
}
