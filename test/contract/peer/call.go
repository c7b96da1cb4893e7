package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/test/contract/history"
)

func callCommand() *cobra.Command {
	var name string
	var interval, timeout time.Duration
	var most, first, atOnce int
	cmd := &cobra.Command{
		Use: "call", Args: cobra.NoArgs,
		Short: "Make attempts, until standard input ends, and print each as a line of JSON when it ends. A line of standard input is a target: {\"to\": name, \"addrs\": addresses}; it replaces the one of that name",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := &caller{name: name, timeout: timeout, out: json.NewEncoder(os.Stdout), clients: newClients(timeout)}
			if atOnce > 0 {
				return c.storm(first, atOnce)
			}
			go c.readTargets()
			return c.run(cmd.Context(), first, interval, most)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "of the client, part of its attempts' IDs")
	cmd.Flags().DurationVar(&interval, "interval", 20*time.Millisecond, "between the beginnings of attempts")
	cmd.Flags().DurationVar(&timeout, "timeout", 20*time.Second, "of an attempt")
	cmd.Flags().IntVar(&first, "first", 0, "number of the first attempt")
	cmd.Flags().IntVar(&atOnce, "at-once", 0, "so many connections at once to one target, and nothing else")
	cmd.Flags().IntVar(&most, "most", 256, "attempts under way; while there are so many, none begins")
	return cmd
}

// target is where attempts go.
type target struct {
	To    string       `json:"to"`
	Addrs []netip.Addr `json:"addrs"` // used in turns
}

type caller struct {
	name    string
	timeout time.Duration
	clients clients

	mu      sync.Mutex
	targets []target
	ended   bool // standard input

	outMu sync.Mutex
	out   *json.Encoder
}

func (c *caller) readTargets() {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var t target
		if err := json.Unmarshal(in.Bytes(), &t); err != nil {
			fmt.Fprintf(os.Stderr, "target %q: %v\n", in.Text(), err)
			continue
		}
		c.setTarget(t)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
}

func (c *caller) setTarget(t target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.targets {
		if c.targets[i].To == t.To {
			c.targets[i] = t
			return
		}
	}
	c.targets = append(c.targets, t)
}

// run makes attempts of each way to each target in turns. It returns when those that
// are under way at the end have ended.
func (c *caller) run(ctx context.Context, first int, interval time.Duration, most int) error {
	under := make(chan struct{}, most)
	var going sync.WaitGroup
	defer going.Wait()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := first; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		t, how, turn, ended, ok := c.next(n)
		if ended {
			return nil
		}
		if !ok {
			continue
		}
		select {
		case under <- struct{}{}:
		default: // do not pile up attempts on a machine that cannot keep up
			continue
		}
		a := c.attempt(n, turn, t, how)
		n++
		going.Go(func() {
			c.clients.do(&a)
			<-under
			c.print(a)
		})
	}
}

// storm makes attempts at once, each with a connection of its own, to the first target.
func (c *caller) storm(first, n int) error {
	var t target
	if err := json.NewDecoder(os.Stdin).Decode(&t); err != nil {
		return fmt.Errorf("read the target: %w", err)
	}
	var going sync.WaitGroup
	for i := range n {
		a := c.attempt(first+i, i, t, history.TCP)
		going.Go(func() {
			c.clients.do(&a)
			c.print(a)
		})
	}
	going.Wait()
	return nil
}

// next returns the target and the way of attempt n, and how often all ways to all targets
// have had their turn. ok is false if there is no target yet.
func (c *caller) next(n int) (t target, how history.How, turn int, ended, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || len(c.targets) == 0 {
		return target{}, "", 0, c.ended, false
	}
	t = c.targets[n%len(c.targets)]
	how = history.Ways[n/len(c.targets)%len(history.Ways)]
	return t, how, n / len(c.targets) / len(history.Ways), false, true
}

func (c *caller) attempt(n, turn int, t target, how history.How) history.Attempt {
	port := uint16(tcpPort)
	if how != history.TCP {
		port = httpPort
	}
	addr := t.Addrs[turn%len(t.Addrs)]
	return history.Attempt{ID: history.NewID(c.name, n), Client: c.name, To: t.To, Addr: netip.AddrPortFrom(addr, port), How: how}
}

func (c *caller) print(a history.Attempt) {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	if err := c.out.Encode(a); err != nil {
		fmt.Fprintln(os.Stderr, "print an attempt:", err)
	}
}
