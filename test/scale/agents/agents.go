// Package agents runs thousands of agents' ends of the state stream in one process: the real
// client (package client) and store (package state) of each, without a kernel.
package agents

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/control/client"
	"github.com/underlane/underlane/pkg/state"
)

// Options are those of all agents.
type Options struct {
	// Controllers returns the addresses of the replicas that run; a connection goes to one of
	// them, as a Service of Kubernetes would send it.
	Controllers func() []string
	Token       func(node string) (string, error)
	Anchors     func() ([]byte, error)
}

// Agent is one agent.
type Agent struct {
	*client.Client
	Store *state.Store
	Uses  []netip.Addr // addresses that its pods use
}

// Whole reports whether the agent has a stream, the pods of its node, and answers about what
// its pods use.
func (a *Agent) Whole() bool {
	v := a.Store.View()
	return a.Connected() && len(v.Local()) > 0 && !slices.ContainsFunc(a.Uses, func(addr netip.Addr) bool { return !v.Answered(addr) })
}

// Agents are running agents.
type Agents struct {
	All []*Agent
	// Received counts the bytes that came from the controllers, TLS included, and Dials the
	// connections to them.
	Received, Dials atomic.Uint64

	opt    Options
	turn   atomic.Uint64
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// Start starts an agent for each node. uses returns the addresses that its pods use.
func Start(opt Options, nodes []string, uses func(i int) []netip.Addr) *Agents {
	ctx, cancel := context.WithCancel(context.Background())
	a := &Agents{opt: opt, cancel: cancel}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	for i, node := range nodes {
		agent := &Agent{Store: state.NewStore(node)}
		agent.Client = client.New(client.Options{
			Controller: "controllers", Node: node, Store: agent.Store, Log: log,
			Token:   func() (string, error) { return opt.Token(node) },
			Anchors: opt.Anchors, Dial: a.dialer(i),
			// As long as the test: nothing touches the addresses again.
			IdleAfter: 24 * time.Hour,
		})
		agent.Uses = uses(i)
		for _, addr := range agent.Uses {
			agent.Subscribe(addr)
		}
		a.All = append(a.All, agent)
		a.done.Go(func() { _ = agent.Run(ctx) })
	}
	return a
}

// Stop stops all agents.
func (a *Agents) Stop() {
	a.cancel()
	a.done.Wait()
}

// Deltas returns how many deltas the agents have taken in.
func (a *Agents) Deltas() (n uint64) {
	for _, agent := range a.All {
		n += agent.Status().Deltas
	}
	return n
}

// Connected returns how many agents have a stream that has answered.
func (a *Agents) Connected() (n int) {
	for _, agent := range a.All {
		if agent.Connected() {
			n++
		}
	}
	return n
}

// Await waits until cond holds for all agents, and returns how many of them it does not hold
// for when the time is over.
func (a *Agents) Await(within time.Duration, cond func(*Agent) bool) (lacking int) {
	for deadline := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		lacking = 0
		for _, agent := range a.All {
			if !cond(agent) {
				lacking++
			}
		}
		if lacking == 0 || time.Now().After(deadline) {
			return lacking
		}
	}
}

// Addr returns the address of an agent, on loopback.
func Addr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 1 + byte(i>>16), byte(i >> 8), byte(i)})
}

// dialer returns how an agent connects: from an address of loopback of its own, to the
// replicas in turn.
func (a *Agents) dialer(i int) func(context.Context, string) (net.Conn, error) {
	from := Addr(i)
	return func(ctx context.Context, _ string) (net.Conn, error) {
		to := a.opt.Controllers()
		if len(to) == 0 {
			return nil, fmt.Errorf("no controller runs")
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
		conn, err := d.DialContext(ctx, "tcp", to[int(a.turn.Add(1))%len(to)])
		if err != nil {
			return nil, err
		}
		a.Dials.Add(1)
		return &counted{conn, &a.Received}, nil
	}
}

type counted struct {
	net.Conn
	bytes *atomic.Uint64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.bytes.Add(uint64(n))
	return n, err
}
