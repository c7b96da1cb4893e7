// Package client is the agent's end of the state stream (pkg/control). A Client
// keeps a state.Store current, requests certificates, and reports the state of the
// node's pods. While the controller is away the Store keeps its state.
package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/state"
)

// ErrDisconnected is the error of calls that need a stream to the controller while
// there is none.
var ErrDisconnected = errors.New("not connected to the controller")

// Options configure a Client.
type Options struct {
	Controller string                 // host:port
	Node       string                 // this node's name
	Token      func() (string, error) // the node's bootstrap token; called at each bootstrap, because some tokens expire
	Anchors    func() ([]byte, error) // PEM trust bundle that the controller's certificate must chain to; called for each connection
	Store      *state.Store           // kept current
	Log        *slog.Logger

	Version string // of the agent, shown to users

	// Limits are the limits that nodes share. nil: the agent has none.
	Limits *Limits

	// IdleAfter is how long the agent stays subscribed to an address that it does
	// not use. 0 stands for ten minutes.
	IdleAfter time.Duration
	// Dial connects to Controller; nil is a net.Dialer.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Client is the agent's end of the stream. Its methods are safe for concurrent use.
// The methods that request something work only while Run runs.
type Client struct {
	opt      Options
	creds    *credential
	interest *interest
	reports  *reports
	stale    *staleKeys
	deltas   atomic.Uint64
	nacks    atomic.Uint64
	skipped  atomic.Uint64
	reached  atomic.Bool // a connection was accepted since the session began

	mu      sync.Mutex
	conn    *grpc.ClientConn // nil while disconnected
	lost    time.Time        // when the last connection was lost
	changed chan struct{}    // closed and replaced when the store or conn changed
	status  Status
}

// Status is what a Client is doing.
type Status struct {
	Controller      string
	Connected       bool
	Since           time.Time // when Connected last changed
	LastError       string    // why the Client is not connected, or why it last was not
	NodeCertificate time.Time // expiry; zero without one
	Subscriptions   int
	Deltas          uint64 // that the agent has applied or refused
	Nacks           uint64 // those that it refused
	Skipped         uint64 // resources that were left out because the agent did not understand them
}

// New returns a Client that does nothing before Run.
func New(opt Options) *Client {
	if opt.IdleAfter == 0 {
		opt.IdleAfter = 10 * time.Minute
	}
	if opt.Dial == nil {
		opt.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
	}
	return &Client{
		opt:      opt,
		creds:    &credential{node: opt.Node, token: opt.Token},
		interest: newInterest(opt.IdleAfter),
		reports:  newReports(),
		stale:    newStaleKeys(),
		changed:  make(chan struct{}),
		status:   Status{Controller: opt.Controller, Since: time.Now()},
	}
}

// Run keeps a stream to the controller until ctx ends. Then it returns ctx's error.
func (c *Client) Run(ctx context.Context) error {
	defer c.setConn(nil, context.Canceled)
	if c.opt.Limits != nil {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); c.lease(ctx) }()
		defer func() { cancel(); <-done }()
	}
	var wait backoff
	var failed vain
	for ctx.Err() == nil {
		c.reached.Store(false)
		ready, err := c.session(ctx)
		if errors.Is(err, errRenewed) || ready && movesOn(err) {
			continue // a planned change of connections, which readers do not see
		}
		if ctx.Err() != nil {
			break
		}
		c.setConn(nil, err)
		if ready {
			wait.reset()
			failed = vain{}
		} else if refused(err) || c.reached.Load() && failed.enough(time.Now()) {
			// Why does not matter: a bootstrap with the token gives a certificate that
			// this controller accepts.
			c.creds.forget()
			failed = vain{}
		}
		wait.sleep(ctx)
	}
	return ctx.Err()
}

// movesOn reports whether the controller has asked for another connection.
func movesOn(err error) bool {
	s := status.Convert(err)
	return s.Code() == codes.Aborted && s.Message() == control.MoveOn
}

// Connected reports whether the stream is up and has answered.
func (c *Client) Connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn != nil
}

// Status returns what c is doing.
func (c *Client) Status() Status {
	c.mu.Lock()
	s := c.status
	c.mu.Unlock()
	s.NodeCertificate = c.creds.expiry()
	s.Subscriptions = c.interest.len()
	s.Deltas, s.Nacks = c.deltas.Load(), c.nacks.Load()
	s.Skipped = c.skipped.Load()
	return s
}

// Subscribe requests that the store is kept current for addr, and records that addr
// is in use, so that the subscription stays. It does not block.
func (c *Client) Subscribe(addr netip.Addr) { c.interest.add(addr.Unmap()) }

// InUse returns the subscribed addresses that were used last, at most limit.
func (c *Client) InUse(limit int) []netip.Addr { return c.interest.latest(limit) }

// ReportPods sets the statuses of this node's labelled pods. Each call gives all of
// them. It does not block. The Client sends the changes to the controller now, or
// at the next connection.
func (c *Client) ReportPods(pods []control.PodStatus) { c.reports.set(pods) }

// Resolve returns when the store has the controller's answer about addr. It returns
// at once if the store has it already, or if no pod and no service can have addr.
// Otherwise it waits as Await does.
func (c *Client) Resolve(ctx context.Context, addr netip.Addr) error {
	addr = addr.Unmap()
	if c.opt.Store.View().Answered(addr) {
		c.interest.touch(addr)
		return nil
	}
	if !inCluster(addr) {
		return nil
	}
	return c.Await(ctx, addr, func(v *state.View) bool { return v.Answered(addr) })
}

// Await subscribes to addr and returns when known is true of the store's view. If the
// stream was lost less than 3 s ago Await waits for a new one, because another
// controller takes over when one is replaced. After that it fails with
// ErrDisconnected, and addr stays subscribed for the next stream.
func (c *Client) Await(ctx context.Context, addr netip.Addr, known func(*state.View) bool) error {
	addr = addr.Unmap()
	c.interest.add(addr)
	if known(c.opt.Store.View()) {
		return nil
	}
	for {
		c.mu.Lock()
		changed, connected, away := c.changed, c.conn != nil, time.Since(c.lost)
		c.mu.Unlock()
		if known(c.opt.Store.View()) {
			return nil
		}
		if !connected && away > failover {
			return fmt.Errorf("resolve %s: %w", addr, ErrDisconnected)
		}
		select {
		case <-changed:
		case <-time.After(failover):
		case <-ctx.Done():
			return fmt.Errorf("resolve %s: no answer from the controller: %w", addr, ctx.Err())
		}
	}
}

// failover is how long Await waits for a stream to the next controller.
const failover = 3 * time.Second

// inCluster reports whether a pod or a service can have addr.
func inCluster(addr netip.Addr) bool {
	return addr.IsValid() && addr.Zone() == "" && !addr.IsUnspecified() && !addr.IsLoopback() &&
		!addr.IsMulticast() && !addr.IsLinkLocalUnicast()
}

// setConn records the connection that the stream runs over, or why there is none.
// It logs only changes, not each retry that fails for the same reason.
func (c *Client) setConn(conn *grpc.ClientConn, cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.conn != nil
	c.conn = conn
	if was {
		c.lost = time.Now()
	}
	if now := conn != nil; now != was {
		c.status.Connected, c.status.Since = now, time.Now()
	}
	switch {
	case conn != nil && !was:
		c.opt.Log.Info("connected to the controller", "controller", c.opt.Controller)
		c.status.LastError = ""
	case conn == nil && !errors.Is(cause, context.Canceled):
		text := status.Convert(cause).Message()
		if was || c.status.LastError != text {
			c.opt.Log.Warn("no connection to the controller: working with the last known state",
				"controller", c.opt.Controller, "code", status.Code(cause).String(), "err", text)
		}
		c.status.LastError = text
	}
	c.broadcast()
}

// wakeWaiters makes the waiting calls of Resolve look at the store again.
func (c *Client) wakeWaiters() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broadcast()
}

// broadcast is wakeWaiters with c.mu held.
func (c *Client) broadcast() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// connected returns the connection for calls, or ErrDisconnected.
func (c *Client) connected() (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		if c.status.LastError != "" {
			return nil, fmt.Errorf("%w: %s", ErrDisconnected, c.status.LastError)
		}
		return nil, ErrDisconnected
	}
	return c.conn, nil
}
