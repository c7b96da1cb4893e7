package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// Knock is one attempt of `knock`. Each has its own connection.
type Knock struct {
	At    time.Time     `json:"at"`
	Took  time.Duration `json:"took"`  // nanoseconds
	Stage string        `json:"stage"` // how far it got: connect, talk, done
	Error string        `json:"error,omitempty"`
	Errno string        `json:"errno,omitempty"` // EPERM, ECONNREFUSED…
}

func knock() *cobra.Command {
	var interval, timeout time.Duration
	var most, atOnce int
	cmd := &cobra.Command{
		Use:   "knock HOST:PORT",
		Short: "TCP: a new connection to an echo server every interval, until standard input ends; then print each attempt as a line of JSON. The first has ended when it says so, and one begins after the end of the input",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := untilInputEnds(cmd.Context())
			var (
				mu    sync.Mutex
				all   []Knock
				going sync.WaitGroup
			)
			for range atOnce {
				going.Go(func() {
					k := knockOnce(args[0], timeout)
					mu.Lock()
					defer mu.Unlock()
					all = append(all, k)
				})
			}
			if atOnce > 0 {
				going.Wait()
				return printKnocks(all)
			}
			all = append(all, knockOnce(args[0], timeout))
			fmt.Println("knocking")
			under := make(chan struct{}, most)
			for tick := time.NewTicker(interval); ; {
				select {
				case under <- struct{}{}:
					// An attempt that hangs must not delay the next.
					going.Go(func() {
						k := knockOnce(args[0], timeout)
						<-under
						mu.Lock()
						defer mu.Unlock()
						all = append(all, k)
					})
				default: // do not pile up attempts on a machine that cannot keep up
				}
				select {
				case <-tick.C:
					continue
				case <-ctx.Done():
				}
				break
			}
			last := knockOnce(args[0], timeout)
			going.Wait()
			return printKnocks(append(all, last))
		},
	}
	cmd.Flags().IntVar(&atOnce, "at-once", 0, "so many attempts at once, and nothing else")
	cmd.Flags().DurationVar(&interval, "interval", 10*time.Millisecond, "between attempts")
	cmd.Flags().IntVar(&most, "most", 4096, "most attempts under way at a time; none is made while there are so many")
	cmd.Flags().DurationVar(&timeout, "timeout", 15*time.Second, "of an attempt")
	return cmd
}

func printKnocks(all []Knock) error {
	out := bufio.NewWriter(os.Stdout)
	enc := json.NewEncoder(out)
	for _, k := range all {
		if err := enc.Encode(k); err != nil {
			return err
		}
	}
	return out.Flush()
}

func knockOnce(addr string, timeout time.Duration) Knock {
	k := Knock{At: time.Now(), Stage: "connect"}
	err := func() error {
		c, err := net.DialTimeout("tcp", addr, timeout)
		if err != nil {
			return err
		}
		defer c.Close()
		k.Stage = "talk"
		c.SetDeadline(k.At.Add(timeout))
		if _, err := io.WriteString(c, "knock\n"); err != nil {
			return err
		}
		if back, err := bufio.NewReader(c).ReadString('\n'); err != nil || back != "knock\n" {
			return fmt.Errorf("got %q: %w", back, err)
		}
		k.Stage = "done"
		return nil
	}()
	k.Took = time.Since(k.At)
	if err != nil {
		k.Error = err.Error()
		var errno syscall.Errno
		if errors.As(err, &errno) {
			k.Errno = unix.ErrnoName(errno)
		}
	}
	return k
}

// session is an HTTP keep-alive client that sends all requests on one connection.
func session() *cobra.Command {
	var interval, timeout time.Duration
	var least int
	cmd := &cobra.Command{
		Use:   "session URL",
		Short: "HTTP/1.1: requests on one connection, until standard input ends; print how many; fail where a second connection would be needed",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := untilInputEnds(cmd.Context())
			dials := 0
			client := &http.Client{Timeout: timeout, Transport: &http.Transport{
				DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
					if dials++; dials > 1 {
						return nil, errors.New("the connection was lost")
					}
					return (&net.Dialer{}).DialContext(ctx, network, addr)
				},
			}}
			for n := 1; ; n++ {
				resp, err := client.Get(args[0])
				if err != nil {
					return fmt.Errorf("request %d: %w", n, err)
				}
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK {
					return fmt.Errorf("request %d: status %d: %w", n, resp.StatusCode, err)
				}
				if n == 1 {
					fmt.Println("holding")
				}
				select {
				case <-ctx.Done():
					if n < least {
						continue
					}
					fmt.Printf("rounds %d\n", n)
					return nil
				case <-time.After(interval):
				}
			}
		},
	}
	cmd.Flags().DurationVar(&interval, "interval", 20*time.Millisecond, "between requests")
	cmd.Flags().DurationVar(&timeout, "timeout", 15*time.Second, "of a request")
	cmd.Flags().IntVar(&least, "rounds", 1, "least number of requests, whenever standard input ends")
	return cmd
}

// untilInputEnds returns a context that ends with standard input.
func untilInputEnds(parent context.Context) context.Context {
	ctx, cancel := context.WithCancel(parent)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return ctx
}
