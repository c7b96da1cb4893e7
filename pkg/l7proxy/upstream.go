package l7proxy

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
	"golang.org/x/sys/unix"
)

// connect bounds a dial by the connect timeout and names its failure.
func (p *Proxy) connect(ctx context.Context, c *Choice, dial func(context.Context) (*rawio.Conn, error)) (Conn, error) {
	limit := p.Limits.ConnectTimeout
	if c.failover {
		limit = min(limit, p.Limits.FailoverTimeout)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := dial(ctx)
	if err != nil {
		return nil, mesh.Fail(connectReason(err), err)
	}
	return conn, nil
}

func connectReason(err error) mesh.Reason {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return mesh.ReasonConnectRefused
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, unix.ETIMEDOUT), os.IsTimeout(err):
		return mesh.ReasonConnectTimeout
	}
	return mesh.ReasonConnectFailed
}

// ownFault reports whether a connection failed for want of something here.
func ownFault(err error) bool {
	for _, e := range [...]error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.EADDRNOTAVAIL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (p *Proxy) dialPlain(ctx context.Context, local *mesh.Workload, c *Choice) (Conn, error) {
	return p.connect(ctx, c, func(ctx context.Context) (*rawio.Conn, error) {
		return p.Network.Dial(ctx, local.UID, c.Peer.Addr)
	})
}

// dialMesh connects to the agent of the endpoint's node and proves that it
// speaks for the endpoint's identity. Where that agent is away and its pod
// fails open, the application itself answers, which is not our TLS even where
// it is TLS: where plaintext is allowed (mayFallBack) the connection is made
// again without, otherwise there is none.
func (p *Proxy) dialMesh(ctx context.Context, local *mesh.Workload, c *Choice, alpn string) (Conn, error) {
	if !p.down.is(c.Peer.Addr) {
		conn, err := p.handshakeInTurn(ctx, local, c, alpn)
		if err == nil {
			return conn, nil
		}
		if err == errDown {
			return p.withoutAgent(ctx, local, c)
		}
		if !agentAway(err) && (c.mayFallBack || !refusedForAgent(err)) {
			return nil, err
		}
		p.Log.Debug("the agent of the endpoint's node does not answer", "endpoint", c.Peer.Addr, "cause", err)
		memory := p.Limits.AgentDownMemory
		if !c.mayFallBack && !mtls.Silent(err) {
			memory /= 10 // to ask costs little, and there is no other way
		}
		p.down.remember(c.Peer.Addr, memory)
		if mtls.Silent(err) { // that took time: nobody else is to wait for it
			p.absent(c, mesh.ReasonAgentDown, nil)
		}
	}
	return p.withoutAgent(ctx, local, c)
}

// errDown: no agent has answered at the endpoint's address a moment ago.
var errDown = mesh.Fail(mesh.ReasonAgentDown, nil)

// withoutAgent is what becomes of a connection when no agent answers.
func (p *Proxy) withoutAgent(ctx context.Context, local *mesh.Workload, c *Choice) (Conn, error) {
	if !c.mayFallBack {
		return nil, errDown
	}
	conn, err := p.dialPlain(ctx, local, c)
	if err == nil {
		p.fallbacks.Add(1)
		c.TLS = tap.TLSAgentDown
		c.Peer.Identity = mesh.Identity{} // nobody proved it
	}
	return conn, err
}

// dialShared opens a stream of a connection to the endpoint's agent that others
// use as well. Where that cannot be, it makes a connection for HTTP/1 alone.
func (p *Proxy) dialShared(ctx context.Context, c *Choice) (Conn, error) {
	dialled := *c // it outlives c, maybe
	dialled.load = load{}
	s, err := p.muxes.stream(ctx, c.Key, func(ctx context.Context) (Conn, error) {
		return p.dialMesh(ctx, dialled.from, &dialled, mtls.ALPNMux)
	})
	switch {
	case err != nil:
		return nil, err
	case s == nil:
		return p.dialMesh(ctx, c.from, c, mtls.ALPNHTTP1)
	}
	return s, nil
}

// agentAway reports whether a failed handshake means that what answered, or
// kept silent, is an application rather than an agent. Our own overload and an
// endpoint that cannot be reached are not that.
func agentAway(err error) bool { return mtls.NotAgent(err) || mtls.Silent(err) }

// refusedForAgent reports whether a handshake failed for the connection was
// refused. No agent does that, whatever the port: the kernel does, while the agent
// of a pod that is strict, or fails closed, is away.
func refusedForAgent(err error) bool { return reasonOf(err) == mesh.ReasonConnectRefused }

// readReason says why reading a response failed.
func readReason(err error) mesh.Reason {
	if mtls.Refused(err) {
		return mesh.ReasonTLSRefused
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return mesh.ReasonTimeout
	}
	if reason, ok := errors.AsType[*mesh.ReasonError](err); ok {
		return reason.Reason
	}
	return mesh.ReasonUpstreamReset
}

// writeFailure is the likely cause of a failed first write to an endpoint: in
// TLS 1.3 the peer's refusal of our certificate waits to be read.
func writeFailure(c Conn, err error) error {
	if _, ok := c.(*secureConn); ok {
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, rerr := c.Read(make([]byte, 1)); mtls.Refused(rerr) {
			return rerr
		}
	}
	return err
}

// reasonOf is the reason that err carries.
func reasonOf(err error) mesh.Reason {
	var r *mesh.ReasonError
	if errors.As(err, &r) {
		return r.Reason
	}
	return mesh.ReasonConnectFailed
}

// downPeers remembers, for a while, endpoints whose agent did not answer, so
// that not each connection finds out again.
type downPeers struct {
	mu    sync.Mutex
	until map[netip.AddrPort]time.Time
}

func (d *downPeers) is(addr netip.AddrPort) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	until, ok := d.until[addr]
	return ok && time.Now().Before(until)
}

func (d *downPeers) remember(addr netip.AddrPort, how time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until[addr] = time.Now().Add(how)
}

// back forgets that no agent answered at addr: it has.
func (d *downPeers) back(addr netip.AddrPort) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.until, addr)
}

func (d *downPeers) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for addr, until := range d.until {
		if now.After(until) {
			delete(d.until, addr)
		}
	}
}
