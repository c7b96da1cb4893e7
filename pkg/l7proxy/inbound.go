package l7proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/l7proxy/detect"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/policy"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// ServeInbound proxies a connection that somebody made to local, a pod of this
// node. It returns when the connection is over.
func (p *Proxy) ServeInbound(ctx context.Context, c *rawio.Conn, local *mesh.Workload) {
	defer c.Close()
	client := c.Remote().Addr()
	p.State.Touch(client)
	source, _ := p.State.View().Workload(client)
	s := &Session{
		proxy: p, ID: p.ids.Add(1), Client: c,
		Direction: mesh.Inbound,
		Source:    tap.Peer{Addr: c.Remote(), Workload: source},
		Original:  c.Local(),
		TLS:       tap.TLSNoIdentity,
	}
	fromNode := p.State.IsNode(client)
	s.target = newInboundTarget(local, fromNode)
	if !fromNode { // a pod that others keep busy must not fail its probes
		leave, ok := s.enterPod(local)
		if !ok {
			return
		}
		defer leave()
	}
	if mesh.InRanges(local.Settings.OpaquePorts, s.Original.Port()) {
		// The mesh's own TLS comes first all the same: it is looked for.
		s.opaque = true
	}
	p.serve(ctx, s, c)
}

// acceptMesh takes the client's mTLS: from then on the session's client side is
// decrypted and its identity is known. The protocol is what the ALPN says.
func (s *Session) acceptMesh(ctx context.Context, c *rawio.Conn, hello []byte) (detect.Protocol, error) {
	local := s.target.(*inboundTarget).local.Load()
	config, err := s.proxy.Certs.ServerConfig(local.Identity)
	if err != nil {
		return detect.Unknown, err
	}
	below := &transport{Conn: c, head: hello}
	conn := tls.Server(below, config)
	if err := s.proxy.doHandshake(ctx, c.Remote().Addr(), false, conn, below); err != nil {
		if errors.Is(err, mtls.ErrBusy) {
			_, _ = c.Write(mtls.BusyAlert)
		}
		return detect.Unknown, err
	}
	cs := conn.ConnectionState()
	identity, err := mtls.PeerIdentity(cs)
	if err != nil {
		return detect.Unknown, mesh.Fail(mesh.ReasonTLSPeer, err)
	}
	s.Client, s.Head, s.TLS = secure(conn, below), nil, tap.TLSTrue
	s.Source.Identity = identity
	switch cs.NegotiatedProtocol {
	case mtls.ALPNHTTP1:
		return detect.HTTP1, nil
	case mtls.ALPNMux:
		return detect.Mux, nil
	case mtls.ALPNHTTP2:
		return detect.HTTP2, nil
	}
	return detect.Opaque, nil
}

// inboundTarget is a pod of this node, at the address that the client asked
// for. Its policy is decided here, for each request.
type inboundTarget struct {
	local    atomic.Pointer[mesh.Workload] // picking refreshes it while streams begin
	fromNode bool
}

func newInboundTarget(local *mesh.Workload, fromNode bool) *inboundTarget {
	t := &inboundTarget{fromNode: fromNode}
	t.local.Store(local)
	return t
}

func (t *inboundTarget) service() *mesh.Service { return nil }

func (t *inboundTarget) pick(s *Session, c *Choice, _ *place, exclude []netip.AddrPort) error {
	for _, addr := range exclude {
		if addr == s.Original {
			return mesh.Fail(mesh.ReasonNoEndpoints, nil) // there is no other
		}
	}
	// The settings may have changed since the connection was accepted.
	local := t.local.Load()
	if w, ok := s.proxy.State.View().WorkloadByUID(local.UID); ok && w != local {
		local = w
		t.local.Store(w)
	}
	verdict := policy.Decide(policy.Input{
		Client:       s.Source.Identity,
		ClientAddr:   s.Source.Addr.Addr(),
		ClientIsNode: t.fromNode,
		Server:       local,
		Port:         s.Original.Port(),
	})
	if !verdict.Allowed {
		return mesh.Fail(verdict.Reason, nil)
	}
	if !t.fromNode { // probes are not refused
		if err := s.proxy.rateLimits.letIn(local, s.Source.Identity); err != nil {
			return err
		}
	}
	*c = Choice{
		Key:  PoolKey{Session: s.ID, Addr: s.Original},
		Peer: tap.Peer{Addr: s.Original, Workload: local, Identity: local.Identity},
		TLS:  s.TLS,
		way:  wayLocal,
	}
	return nil
}

func (t *inboundTarget) dial(ctx context.Context, s *Session, c *Choice, _ string) (Conn, error) {
	return s.proxy.dialApp(ctx, c, s.Source.Addr)
}
