package l7proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
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
		conn, err := p.handshake(ctx, local, c, alpn)
		if err == nil {
			return conn, nil
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
	if !c.mayFallBack {
		return nil, mesh.Fail(mesh.ReasonAgentDown, nil)
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

// handshake gives a connection to the endpoint's agent. Where this process
// stood still meanwhile a failure is no word about the agent: it tries again.
func (p *Proxy) handshake(ctx context.Context, local *mesh.Workload, c *Choice, alpn string) (Conn, error) {
	began := time.Now()
	conn, err := p.handshakeOnce(ctx, local, c, alpn)
	if err != nil && ctx.Err() == nil && p.standstill.since(began) {
		return p.handshakeOnce(ctx, local, c, alpn)
	}
	return conn, err
}

func (p *Proxy) handshakeOnce(ctx context.Context, local *mesh.Workload, c *Choice, alpn string) (Conn, error) {
	config, err := p.Certs.ClientConfig(local.Identity, c.Key.Identity, alpn)
	if err != nil {
		return nil, err
	}
	raw, err := p.dialPlain(ctx, local, c)
	if err != nil {
		return nil, err
	}
	below := &watched{transport: transport{Conn: rawOf(raw)}, local: local, choice: Choice{Key: c.Key, Peer: c.Peer, from: local, failover: true}, http1: alpn == mtls.ALPNHTTP1, all: &p.watched}
	conn := tls.Client(below, config)
	if err := p.doHandshake(ctx, p.clientGate, conn); err != nil {
		raw.Close()
		return nil, err
	}
	p.down.back(c.Peer.Addr)
	p.watched.add(below)
	return secure(conn, &below.transport), nil
}

// transport is the TCP connection below mTLS.
type transport struct {
	*rawio.Conn
	head []byte // bytes that were read already
	// ahead is read into, rather than what crypto/tls asks for, which is hardly
	// more than one record: nil but for bulk. It is the reader's.
	ahead *[]byte
}

// errTruncated: a FIN without the close_notify that every agent sends first.
// Anybody on the way can forge a FIN, and crypto/tls would take it for a proper
// end of the stream.
var errTruncated = fmt.Errorf("mTLS connection ended without close_notify: %w", io.ErrUnexpectedEOF)

func (c *transport) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	if c.ahead != nil && len(p) < len(*c.ahead) {
		n, err := c.Conn.Read(*c.ahead)
		copied := copy(p, (*c.ahead)[:n])
		c.head = (*c.ahead)[copied:n]
		return copied, whole(err)
	}
	n, err := c.Conn.Read(p)
	return n, whole(err)
}

// whole takes the end of TCP for what it is below TLS.
func whole(err error) error {
	if err == io.EOF {
		return errTruncated
	}
	return err
}

// readAhead makes reads take in what the network has, or no more than was asked
// for. What was read ahead is lost when it ends.
func (c *transport) readAhead(on bool) {
	switch {
	case on && c.ahead == nil && len(c.head) == 0:
		c.ahead = bulks.Get().(*[]byte)
	case !on && c.ahead != nil:
		bulks.Put(c.ahead)
		c.ahead, c.head = nil, nil
	}
}

func (p *Proxy) doHandshake(ctx context.Context, gate *mtls.Gate, conn *tls.Conn) error {
	leave, err := gate.Enter(ctx)
	if err != nil {
		return mesh.Fail(mesh.ReasonTimeout, err)
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, p.Limits.HandshakePause)
	defer cancel()
	return mtls.Handshake(ctx, conn)
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
