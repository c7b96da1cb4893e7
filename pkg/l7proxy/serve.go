package l7proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/detect"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/opaque"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// ServeOutbound proxies a connection that local, a pod of this node, made to
// dst; process is the name of the program that did, for tap. It returns when the
// connection is over.
func (p *Proxy) ServeOutbound(c *rawio.Conn, local *mesh.Workload, dst netip.AddrPort, process string) {
	defer c.Close()
	s := &session{proxy: p, raw: c, Session: request.Session{
		Core: &p.core, ID: p.ids.Add(1), Client: conn.Plain{Conn: c},
		Direction: mesh.Outbound,
		Source: tap.Peer{
			Addr:     netip.AddrPortFrom(destination.PodAddress(local, dst.Addr(), c.Remote().Addr()), c.Remote().Port()),
			Workload: local, Identity: local.Identity,
		},
		Original: dst,
		Process:  process,
		TLS:      tap.TLSNoIdentity,
		Target:   p.directory.Outbound(local, dst),
	}}
	if !p.enter(&s.Session, local) {
		return
	}
	defer s.Quota.Leave()
	if s.Target.Opaque() {
		s.serveOpaque(nil, detect.Opaque)
		return
	}
	s.serve()
}

// ServeInbound proxies a connection that a client made to local, a pod of this
// node. It returns when the connection is over.
func (p *Proxy) ServeInbound(c *rawio.Conn, local *mesh.Workload) {
	defer c.Close()
	client := c.Remote().Addr()
	p.State.Subscribe(client)
	source, _ := p.State.View().Workload(client)
	fromNode := p.State.IsNode(client)
	target := p.directory.Inbound(local, c.Local(), fromNode)
	s := &session{proxy: p, raw: c, inbound: target, Session: request.Session{
		Core: &p.core, ID: p.ids.Add(1), Client: conn.Plain{Conn: c},
		Direction: mesh.Inbound,
		Source:    tap.Peer{Addr: c.Remote(), Workload: source},
		Original:  c.Local(),
		TLS:       tap.TLSNoIdentity,
		Target:    target,
	}}
	if !fromNode { // a pod that others keep busy must not fail its probes
		if !p.enter(&s.Session, local) {
			return
		}
		defer s.Quota.Leave()
	}
	// The mesh's own TLS comes first: it is looked for in any case.
	s.opaque = target.Opaque()
	s.serve()
}

// enter counts a session as one of its pod. Where the pod may have no more, the
// session is refused.
func (p *Proxy) enter(s *request.Session, local *mesh.Workload) bool {
	s.Quota = p.pods.Enter(quota.Key{UID: local.UID, Direction: s.Direction})
	if s.Quota == nil {
		s.FailConn(nil, mesh.Fail(mesh.ReasonOverload, quota.ErrConnections))
	}
	return s.Quota != nil
}

// session is a client connection until its protocol is known.
type session struct {
	request.Session
	proxy   *Proxy
	raw     *rawio.Conn          // the client's connection
	inbound *destination.Inbound // Target, where it is one
	opaque  bool                 // a setting says that the bytes are not to be looked into
}

// serve finds out which side speaks first and what, and hands the session to the
// driver of its protocol.
func (s *session) serve() {
	p, ctx := s.proxy, s.proxy.lifetime.Ended
	buf := conn.GetBuffer() // the HTTP/1 driver takes it over, and all others a copy of what is in it
	head, up, err := s.firstBytes(ctx, *buf)
	if err != nil {
		conn.PutBuffer(buf)
		defer up.Cut()
		var tried *endpoints.Attempt
		if up != nil {
			tried = up.Attempt
		}
		s.FailConn(tried, err)
		return
	}
	if up != nil && (len(up.First) > 0 && !detect.HTTP2Server(up.First) || up.Err != nil) { // the server spoke first: nothing to look into
		s.Head = bytes.Clone(head)
		conn.PutBuffer(buf)
		s.serveOpaque(up, detect.Opaque)
		return
	}
	head, seen := s.tell(ctx, *buf, head, up != nil)
	proto := seen.Protocol
	s.Head, s.SNI = head, seen.SNI
	giveUp := func() {
		up.Discard()
		seen.ahead.drop()
		up, seen.ahead = nil, nil
	}
	if seen.late {
		giveUp()
		p.h1.RefuseLate(&s.Session, buf)
		return
	}

	if proto == detect.TLS && seen.Underlane && s.inbound != nil {
		giveUp()
		if proto, err = s.acceptMesh(ctx, bytes.Clone(head)); err != nil {
			conn.PutBuffer(buf)
			s.refuse(err)
			return
		}
		defer s.Client.Close()
	} else if s.opaque && proto != detect.TLS {
		proto = detect.Opaque
	}
	if proto == detect.HTTP1 {
		giveUp()
		p.h1.Serve(&s.Session, buf)
		return
	}
	s.Head = bytes.Clone(s.Head)
	conn.PutBuffer(buf)
	switch proto {
	case detect.HTTP2:
		giveUp()
		p.h2.Serve(&s.Session)
	case detect.Mux:
		s.serveMux()
	default:
		if seen.ahead != nil {
			var tried *endpoints.Attempt
			if up, tried, err = seen.ahead.take(); err != nil {
				s.FailConn(tried, err)
				return
			}
		}
		if seen.watch {
			s.Client = &watchedFirst{Conn: s.Client, first: bytes.Clone(s.Head)}
		}
		s.serveOpaque(up, proto)
	}
}

func (s *session) serveOpaque(up *opaque.Opened, proto detect.Protocol) {
	protocol := "tcp"
	if proto == detect.TLS {
		protocol = "tls"
	}
	opaque.Serve(s.proxy.lifetime.Ended, &s.Session, up, protocol)
}

// acceptMesh takes the client's mTLS: from then on the session's client side is
// decrypted and its identity is known. The protocol is what the ALPN says.
func (s *session) acceptMesh(ctx context.Context, hello []byte) (detect.Protocol, error) {
	p := s.proxy
	config, err := p.Certs.ServerConfig(s.inbound.Local().Identity)
	if err != nil {
		return detect.Unknown, err
	}
	below := &conn.Transport{Conn: s.raw, Head: hello}
	c := tls.Server(below, config)
	if err := p.upstream.Handshake(ctx, s.raw.Remote().Addr(), false, c, below); err != nil {
		if errors.Is(err, mtls.ErrBusy) {
			_, _ = s.raw.Write(mtls.BusyAlert)
		}
		return detect.Unknown, err
	}
	cs := c.ConnectionState()
	identity, err := mtls.PeerIdentity(cs)
	if err != nil {
		return detect.Unknown, mesh.Fail(mesh.ReasonTLSPeer, err)
	}
	s.Client, s.Head, s.TLS = conn.NewSecure(c, below), nil, tap.TLSTrue
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

// alertTime is how long a refused peer has to read the alert that says why.
const alertTime = time.Second

// refuse ends a connection whose handshake failed. The peer's agent may be
// sending a request already, for a client of TLS 1.3 is done first: a reset
// now would take the alert from it, and its tap would not say tls-refused.
func (s *session) refuse(err error) {
	s.ReportFailure(nil, err)
	if s.raw.CloseWrite() != nil {
		return
	}
	_ = s.raw.SetReadDeadline(time.Now().Add(alertTime))
	_, _ = io.Copy(io.Discard, s.raw)
}
