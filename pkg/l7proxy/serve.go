package l7proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/detect"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/l7proxy/opaque"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// ServeOutbound proxies a connection that local, a pod of this node, made to dst. process
// is the name of the client's program, for tap. It returns nil when the connection has ended. If
// the connection goes on without this goroutine, the caller calls rest, which calls over when the
// connection has ended, in a goroutine that may wait. over gets what has panicked; nil: nothing has.
func (p *Proxy) ServeOutbound(c *rawio.Conn, local *mesh.Workload, dst netip.AddrPort, process string) (rest func(over func(defect any, stack []byte))) {
	s := &session{proxy: p, raw: c}
	defer endUnless(s, &rest)
	s.Core, s.ID, s.Client = &p.core, p.ids.Add(1), conn.Plain{Conn: c}
	s.Direction, s.TLS = mesh.Outbound, tap.TLSNoIdentity
	s.Source = tap.Peer{
		Addr:     netip.AddrPortFrom(destination.PodAddress(local, dst.Addr(), c.Remote().Addr()), c.Remote().Port()),
		Workload: local, Identity: local.Identity,
	}
	s.Original, s.Process, s.From = dst, process, quota.PodSource(local.UID)
	p.turn(&s.Session, local)
	s.Target = p.directory.Outbound(local, dst, s.aside)
	if !p.enter(&s.Session, local, connDescriptors) {
		return nil
	}
	if s.Target.Opaque() {
		return restOf(s, s.serveOpaque(nil, detect.Opaque))
	}
	return restOf(s, s.serve())
}

// Turns returns the turns of a goroutine that accepts connections of a pod, or to it.
func (p *Proxy) Turns(local *mesh.Workload, d mesh.Direction) *fairshare.Task {
	task := new(fairshare.Task)
	task.Charge(p.pods.Account(quota.Key{UID: local.UID, Direction: d}))
	task.GoFirst() // among its connections are the node's own, such as probes
	return task
}

// ServeInbound proxies a connection that a client made to local, a pod of this node. It returns
// what ServeOutbound does.
func (p *Proxy) ServeInbound(c *rawio.Conn, local *mesh.Workload) (rest func(over func(defect any, stack []byte))) {
	client := c.Remote().Addr()
	fromNode := p.State.IsNode(client)
	s := &session{proxy: p, raw: c}
	defer endUnless(s, &rest)
	s.Core, s.ID, s.Client = &p.core, p.ids.Add(1), conn.Plain{Conn: c}
	s.Direction, s.TLS = mesh.Inbound, tap.TLSNoIdentity
	s.Source.Addr, s.Original, s.From = c.Remote(), c.Local(), quota.ClientSource(client, mesh.Identity{})
	if !fromNode { // kubelet probes must not wait, nor fail because other clients have too many connections
		p.turn(&s.Session, local)
	}
	p.State.Subscribe(client)
	s.Source.Workload, _ = p.State.View().Workload(client)
	target := p.directory.Inbound(local, c.Local(), fromNode)
	s.inbound, s.Target = target, target
	if !fromNode && !p.enter(&s.Session, local, connDescriptors) {
		return nil
	}
	// Connections to an opaque port may be mTLS of the mesh, so serve detects TLS also
	// for these.
	s.opaque = target.Opaque()
	return restOf(s, s.serve())
}

// Descriptors of the connections of clients.
const (
	connDescriptors   = 1
	streamDescriptors = 0 // of a shared connection
)

// turn begins the Task of a session: all work for it takes the time of its pod.
func (p *Proxy) turn(s *request.Session, local *mesh.Workload) {
	s.Task.Charge(p.pods.Account(quota.Key{UID: local.UID, Direction: s.Direction}))
	s.Client.ReadsInTurn(s.Turns())
	s.Client.WritesInTurn(s.Turns())
	s.Task.Resume()
}

// enter counts a session as a connection of the pod. It refuses the session and returns
// false if the pod, or the client, has too many.
func (p *Proxy) enter(s *request.Session, local *mesh.Workload, descriptors int) bool {
	usage, err := p.pods.Enter(quota.Key{UID: local.UID, Direction: s.Direction}, s.From, descriptors)
	if err != nil {
		s.FailConn(nil, mesh.Fail(mesh.ReasonOverload, err))
		return false
	}
	s.Quota = usage
	return true
}

// session is a client connection until its protocol is known.
type session struct {
	request.Session
	proxy   *Proxy
	raw     *rawio.Conn          // the client's connection
	inbound *destination.Inbound // Target of an inbound session; nil: outbound
	opaque  bool                 // a setting makes the connection opaque, unless it is mTLS of the mesh
	secured bool                 // Client is mTLS of the mesh
}

// serve detects which side speaks first and which protocol, learns who the client is, and
// passes the session to the driver of the protocol. It returns what that does.
func (s *session) serve() request.Rest {
	ctx := s.proxy.lifetime.Ended
	o := opening{buf: conn.GetBuffer()}
	s.Quota.Silent(s.evict)
	var head []byte
	var err error
	head, o.up, err = s.firstBytes(ctx, &o.buf)
	if !s.Quota.Spoke() {
		err = errEvicted
	}
	switch {
	case err != nil:
		o.putBuffer()
		defer o.up.Cut()
		s.meet(ctx)
		s.FailConn(o.tried(), err)
		return nil
	case o.serverSpoke():
		s.Head = bytes.Clone(head)
		o.putBuffer()
		s.meet(ctx)
		return s.serveOpaque(o.up, detect.Opaque)
	}

	head, o.seen = s.tell(ctx, *o.buf, head, o.up != nil)
	proto := o.seen.Protocol
	s.Head, s.SNI = head, o.seen.SNI
	if proto == detect.Opaque {
		s.SNI = detect.ProxiedName(head)
	}
	if s.inbound != nil && proto == detect.TLS && o.seen.OffersMesh {
		o.giveUp()
		if proto, err = s.acceptMesh(ctx, bytes.Clone(head)); err != nil {
			o.putBuffer()
			s.refuse(err)
			return nil
		}
		s.secured = true
	} else {
		s.meet(ctx)
		if s.opaque && proto != detect.TLS && !o.seen.late {
			proto = detect.Opaque
		}
	}
	return s.drive(proto, &o)
}

// drive passes the session to the driver of its protocol.
func (s *session) drive(proto detect.Protocol, o *opening) request.Rest {
	p := s.proxy
	switch {
	case o.seen.late:
		o.giveUp()
		p.h1.RefuseLate(&s.Session, o.buf)
		return nil
	case proto == detect.HTTP1:
		o.giveUp()
		s.used()
		return serveRequests(s, o.buf)
	}
	s.Head = bytes.Clone(s.Head)
	o.putBuffer()
	switch proto {
	case detect.HTTP2:
		o.giveUp()
		s.used()
		s.Quota.Settle() // its streams share connections
		defer s.leg("http2")()
		p.h2.Serve(&s.Session)
	case detect.Mux:
		defer s.leg("http1")()
		s.serveMux(mux.HTTP1, serveHTTP1)
	case detect.Streams: // each of them is reported by itself
		s.serveMux(mux.Opaque, serveOpaqueStream)
	case detect.Move:
		s.serveMove()
	default:
		return s.driveOpaque(proto, o)
	}
	return nil
}

// driveOpaque carries the bytes of a session on a connection to the endpoint: the one that
// was made while nobody knew the protocol, or a new one.
func (s *session) driveOpaque(proto detect.Protocol, o *opening) request.Rest {
	if proto == detect.TLS {
		s.Said = destination.Said{TLS: true, SNI: s.SNI}
		if s.inbound == nil && s.Target.Egress().LooksAtTLS() {
			o.giveUp() // it was made before the server's name was known
		}
	}
	if ahead := o.seen.ahead; ahead != nil {
		s.await(ahead.done)
		up, tried, err := ahead.take()
		if err != nil {
			s.FailConn(tried, err)
			return nil
		}
		o.up = up
	}
	if o.seen.watch {
		s.Client = &watchedFirst{Conn: s.Client, first: bytes.Clone(s.Head)}
	}
	return s.serveOpaque(o.up, proto)
}

// meet waits until it is known which pod the client of an inbound session is.
func (s *session) meet(ctx context.Context) {
	if s.inbound == nil || s.Source.Workload != nil {
		return
	}
	client := s.Source.Addr.Addr()
	s.proxy.directory.Meet(ctx, client, s.aside)
	s.Source.Workload, _ = s.proxy.State.View().Workload(client)
}

// aside calls wait, which needs no turn.
func (s *session) aside(wait func()) {
	s.Task.Pause()
	wait()
	s.Task.Resume()
}

// leg reports to tap that the client's connection carries requests. The caller calls the
// returned function when it is served.
func (s *session) leg(protocol string) (served func()) {
	began := time.Now()
	var source tap.Peer
	s.EmitLeg(tap.LegOpen, began, func(e *tap.Event) {
		e.Side, e.Protocol, e.Live = tap.ClientSide, protocol, liveClient{s.raw}
		source = e.Source
	})
	client := source // its workload may become known later
	return func() {
		ended := time.Now()
		s.EmitLeg(tap.LegClose, ended, func(e *tap.Event) {
			e.Source, e.Side, e.Protocol, e.Duration, e.Live = client, tap.ClientSide, protocol, ended.Sub(began), liveClient{s.raw}
			facts := upstream.LegOf(s.raw)
			e.Legs = &tap.Legs{Client: facts}
			e.SRTT, e.MinRTT, e.Retransmits, e.ReadBytes, e.WriteBytes = facts.SRTT, facts.MinRTT, facts.Retransmits, facts.Received, facts.Sent
		})
	}
}

// liveClient is a client's connection that carries requests.
type liveClient struct{ raw *rawio.Conn }

// Bytes implements tap.Live.
func (c liveClient) Bytes() (read, written uint64) { return c.raw.Bytes() }

// Legs implements tap.Live.
func (c liveClient) Legs() tap.LiveLegs { return tap.LiveLegs{Client: upstream.LiveLegOf(c.raw)} }

// errEvicted: the client has said nothing, and has as many connections as it may.
var errEvicted = mesh.Fail(mesh.ReasonOverload, errors.New("nothing was said, and the client wants another connection and has as many as it may"))

// evict closes the client's connection while nothing was said.
func (s *session) evict() {
	_ = s.raw.Reset()
	s.raw.Close()
}

func (s *session) serveOpaque(up *opaque.Opened, proto detect.Protocol) request.Rest {
	s.used()
	protocol := "tcp"
	if proto == detect.TLS {
		protocol = "tls"
	}
	// It was admitted before anybody spoke. That may be long ago.
	if up != nil {
		if err := destination.StillAllowed(s.proxy.directory, s.Target, &s.Source, &up.Attempt.Endpoint, s.Said); err != nil {
			up.Cut()
			s.FailConn(up.Attempt, err)
			return nil
		}
	}
	return opaque.Serve(s.proxy.lifetime.Ended, &s.Session, up, protocol)
}

// acceptMesh does the server's side of the client's mTLS handshake. Afterwards the
// session's client side is decrypted and the client's identity is known. It returns the
// protocol that the ALPN name stands for.
func (s *session) acceptMesh(ctx context.Context, hello []byte) (detect.Protocol, error) {
	p := s.proxy
	config, err := p.Certs.ServerConfig(s.inbound.Local().Identity)
	if err != nil {
		return detect.Unknown, err
	}
	below, from := &conn.Transport{Conn: s.raw, Head: hello}, s.raw.Remote().Addr()
	var aside upstream.Aside
	var identity mesh.Identity
	c := tls.Server(below, mtls.Admitting(config, func(id mesh.Identity) (err error) {
		if identity, err = p.directory.AdmitPeer(ctx, from, id, s.inbound.Local(), aside.Do); err != nil {
			s.Source.Identity = id // the one that is used elsewhere, for tap
		}
		return err
	}))
	// Handshakes have turns of their own.
	s.Task.Pause()
	s.raw.ReadsInTurn(nil)
	err = p.upstream.Handshake(ctx, from, false, c, below, &aside)
	p.pods.Handshake(quota.Key{UID: s.inbound.Local().UID, Direction: mesh.Inbound}, aside.Computed())
	s.raw.ReadsInTurn(s.Turns())
	s.Task.Resume()
	if err != nil {
		if errors.Is(err, mtls.ErrBusy) {
			_, _ = s.raw.Write(mtls.BusyAlert)
		}
		return detect.Unknown, err
	}
	cs := c.ConnectionState()
	s.Client, s.Head, s.TLS = conn.NewSecure(c, below), nil, tap.TLSTrue
	s.Source.Identity = identity
	s.From = quota.ClientSource(s.Source.Addr.Addr(), identity)
	if err := s.Quota.Move(s.From); err != nil {
		return detect.Unknown, mesh.Fail(mesh.ReasonOverload, err)
	}
	switch cs.NegotiatedProtocol {
	case mtls.ALPNHTTP1:
		return detect.HTTP1, nil
	case mtls.ALPNMux:
		return detect.Mux, nil
	case mtls.ALPNStreams:
		return detect.Streams, nil
	case mtls.ALPNMove:
		return detect.Move, nil
	case mtls.ALPNHTTP2:
		return detect.HTTP2, nil
	}
	return detect.Opaque, nil
}

// alertTime is how long a refused peer has to read the alert with the cause.
const alertTime = time.Second

// afterRefusal is how many bytes of a refused peer are read and discarded, so that it gets
// the alert: the rest of its handshake and the first request.
const afterRefusal = 64 << 10

// refuse ends a connection whose handshake has failed. In TLS 1.3 the client finishes the
// handshake first, so the peer's agent may be sending a request already. A reset at this
// moment would discard the alert before the peer has read it, and its tap would not show
// tls-refused.
func (s *session) refuse(err error) {
	s.ReportFailure(nil, err)
	if s.raw.CloseWrite() != nil {
		return
	}
	_ = s.raw.SetReadDeadline(time.Now().Add(alertTime))
	_, _ = io.Copy(io.Discard, io.LimitReader(s.raw, afterRefusal))
}
