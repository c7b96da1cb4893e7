package upstream

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// Dial opens a connection to the endpoint on behalf of client. alpn (one of mtls.ALPN…)
// names the protocol inside mTLS. When Dial returns, TCP is connected and, between nodes,
// the mTLS handshake is done. The connect timeout bounds it. The error wraps a
// *mesh.ReasonError.
func (p *dialer) Dial(ctx context.Context, ep *Endpoint, client netip.AddrPort, alpn string) (conn.Conn, Result, error) {
	if p.Connect != nil {
		return p.Connect(ctx, ep, client, alpn)
	}
	switch ep.Mode {
	case SameNode:
		return p.dialApp(ctx, ep, client)
	case MTLS:
		return p.dialMesh(ctx, ep, alpn)
	}
	return p.dialOutside(ctx, ep)
}

// connect bounds a dial by the connect timeout and gives its failure a reason.
func (p *transport) connect(ctx context.Context, ep *Endpoint, dial func(context.Context) (*rawio.Conn, error)) (*rawio.Conn, error) {
	limit := p.Limits.Connect
	if ep.HasOthers {
		limit = min(limit, p.Limits.Failover)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	closed, err := ep.Usage.Open()
	if err != nil {
		return nil, mesh.Fail(mesh.ReasonOverload, err)
	}
	ep.Took.connecting()
	raw, err := dial(ctx)
	ep.Took.connected()
	if err != nil {
		closed()
		return nil, p.dialError(ep, err)
	}
	raw.OnClose(closed)
	return raw, nil
}

// dialPlain connects from the client's namespace to dst, without TLS.
func (p *transport) dialPlain(ctx context.Context, ep *Endpoint, dst netip.AddrPort) (*rawio.Conn, error) {
	return p.connect(ctx, ep, func(ctx context.Context) (*rawio.Conn, error) {
		return p.Network.Dial(ctx, ep.Client.UID, dst)
	})
}

// dialMesh connects to the agent of the endpoint's node, which has to prove the
// endpoint's identity. While that agent is away and the pod fails open, the application
// itself answers the handshake, which then fails even if the application speaks TLS. If
// plaintext is allowed (Endpoint.Fallback), dialMesh connects again without TLS, else it
// fails with ReasonAgentDown.
func (p *dialer) dialMesh(ctx context.Context, ep *Endpoint, alpn string) (conn.Conn, Result, error) {
	if !p.down.is(ep) {
		c, result, err := p.handshakeInTurn(ctx, ep, alpn)
		if err == nil {
			return c, result, nil
		}
		if err == errDown {
			return p.withoutAgent(ctx, ep)
		}
		if refusedForAgent(err) && p.terminating(ep) {
			return nil, ep.Expected(), mesh.Fail(mesh.ReasonPodGone, fmt.Errorf("%v", err))
		}
		if !agentAway(err) && (ep.Fallback || !refusedForAgent(err)) {
			return nil, ep.Expected(), err
		}
		p.Log.Debug("the agent of the endpoint's node does not answer", "endpoint", ep.Peer.Addr, "cause", err)
		p.remember(ep, mtls.Silent(err))
		if mtls.Silent(err) { // it took the time of HandshakeSilence: no other request should wait so long
			p.OnUnreachable(ep, mesh.ReasonAgentDown)
		}
	}
	return p.withoutAgent(ctx, ep)
}

// errDown means that no agent answered at the endpoint's address, now or a moment ago.
var errDown = mesh.Fail(mesh.ReasonAgentDown, nil)

// withoutAgent makes the connection in plaintext if that is allowed, because no agent
// answers.
func (p *dialer) withoutAgent(ctx context.Context, ep *Endpoint) (conn.Conn, Result, error) {
	result := ep.Expected()
	if p.Network.Gone(ep.Peer.Addr.Addr()) {
		return nil, result, mesh.Fail(mesh.ReasonPodGone, nil)
	}
	if !ep.Fallback {
		return nil, result, errDown
	}
	raw, err := p.dialPlain(ctx, ep, ep.Peer.Addr)
	if err != nil {
		return nil, result, err
	}
	p.fallbacks.Add(1)
	result.TLS = tap.TLSAgentDown
	result.Peer.Identity = mesh.Identity{} // the peer has not proved it
	return p.plain(ep, raw), result, nil
}

// resolve waits, for a limited time, until the controller has said whose addr is.
func (p *transport) resolve(ctx context.Context, addr netip.Addr) {
	p.State.Subscribe(addr)
	if p.State.View().Answered(addr) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, p.Limits.Resolve)
	defer cancel()
	if err := p.State.Resolve(ctx, addr); err != nil {
		p.Log.Debug("client not known", "addr", addr, "cause", err)
	}
}

// Probe finds out whether an endpoint can be reached. No request uses the connection. If
// the endpoint's agent is there but busy, the error is one of mtls.Busy.
func (p *dialer) Probe(ctx context.Context, ep *Endpoint, client netip.AddrPort) (conn.Conn, Result, error) {
	if ep.Mode != MTLS {
		return p.Dial(ctx, ep, client, mtls.ALPNTCP)
	}
	c, result, err := p.handshake(ctx, ep, mtls.ALPNTCP)
	if ep.Fallback && mtls.NotAgent(err) {
		return p.probePlain(ctx, ep)
	}
	return c, result, err
}

func (p *dialer) probePlain(ctx context.Context, ep *Endpoint) (conn.Conn, Result, error) {
	raw, err := p.dialPlain(ctx, ep, ep.Peer.Addr)
	if err != nil {
		return nil, ep.Expected(), err
	}
	return p.plain(ep, raw), Result{TLS: tap.TLSAgentDown, Peer: ep.Peer}, nil
}
