package l7proxy

import (
	"context"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/detect"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/policy"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/tap"
)

// ServeOutbound proxies a connection that local, a pod of this node, made to
// dst; process is the name of the program that did, for tap. It returns when the
// connection is over.
func (p *Proxy) ServeOutbound(ctx context.Context, c *rawio.Conn, local *mesh.Workload, dst netip.AddrPort, process string) {
	defer c.Close()
	s := &Session{
		proxy: p, ID: p.ids.Add(1), Client: c,
		Direction: mesh.Outbound,
		Source:    tap.Peer{Addr: netip.AddrPortFrom(ownAddress(local, dst.Addr(), c.Remote().Addr()), c.Remote().Port()), Workload: local, Identity: local.Identity},
		Original:  dst,
		Process:   process,
		TLS:       tap.TLSNoIdentity,
	}
	t := newOutboundTarget(p, local, dst)
	s.target = t
	leave, ok := s.enterPod(local)
	if !ok {
		return
	}
	defer leave()
	if t.opaque() {
		s.serveTCP(ctx, nil, detect.Opaque)
		return
	}
	p.serve(ctx, s, c)
}

// resolve makes sure that the view knows dst, if the controller does.
func (p *Proxy) resolve(ctx context.Context, dst netip.Addr) {
	p.State.Touch(dst)
	if p.State.View().Answered(dst) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, p.Limits.ResolveTimeout)
	defer cancel()
	if err := p.State.Resolve(ctx, dst); err != nil {
		p.Log.Debug("destination not known: forwarded as it is", "dst", dst, "cause", err)
	}
}

// ownAddress is the pod's address as the destination would see it: accept()
// says loopback.
func ownAddress(local *mesh.Workload, dst, accepted netip.Addr) netip.Addr {
	for _, a := range local.Addrs {
		if a.Is4() == dst.Unmap().Is4() {
			return a
		}
	}
	return accepted
}

// way is how an endpoint is reached.
type way uint8

const (
	wayPlain way = iota // outside the mesh: as the application would have
	wayLocal            // the same node: into its namespace, policy decided here
	wayMesh             // mutual TLS to its node's agent
)

// outboundTarget is where a pod of this node wants to go: a service's port, a
// pod, or an address that the mesh does not know.
type outboundTarget struct {
	dst netip.AddrPort
	// known is replaced when the state changes: picking does that while other
	// streams of the session begin.
	known atomic.Pointer[destination]
	// touched is when the state was last told that dst is in use, in unix
	// seconds: what nobody uses is forgotten.
	touched atomic.Int64
}

// touchEvery is well below the time after which an address is forgotten.
const touchEvery = 30 // seconds

// destination is what one view says of a target. It is immutable.
type destination struct {
	version uint64         // of the view
	local   *mesh.Workload // the client
	place                  // without svc: the destination is no service
	pod     *mesh.Workload // the destination where it is no service, nil if unknown
	unsaid  bool           // the controller has not said whose address it is
	routing *routing       // of the service's port, nil: no route has a say
}

func newOutboundTarget(p *Proxy, local *mesh.Workload, dst netip.AddrPort) *outboundTarget {
	t := &outboundTarget{dst: dst}
	t.known.Store(&destination{local: local})
	t.look(p)
	return t
}

func (t *outboundTarget) service() *mesh.Service { return t.known.Load().svc }

// look returns what the newest view says; what it does not know the controller is
// asked for. That is so at first, and later, for a session may outlive what the
// state keeps of addresses that are not used: until there is an answer the last one
// holds then. A destination in the mesh must not turn into an unknown one, which is
// reached in plaintext.
func (t *outboundTarget) look(p *Proxy) *destination {
	addr := t.dst.Addr()
	if now, last := time.Now().Unix(), t.touched.Load(); now-last >= touchEvery && t.touched.CompareAndSwap(last, now) {
		p.State.Touch(addr)
	}
	was, v := t.known.Load(), p.State.View()
	if was.version == v.Version() {
		return was
	}
	if !v.Answered(addr) {
		p.resolve(context.Background(), addr)
		v = p.State.View()
	}
	now := *was
	now.version = v.Version()
	if w, ok := v.WorkloadByUID(was.local.UID); ok {
		now.local = w // its settings may have changed
	}
	if v.Answered(addr) || was.version == 0 {
		now.unsaid = !v.Answered(addr)
		now.pod, _ = v.Workload(addr)
		now.svc, now.port, _ = v.Service(t.dst)
		now.routing = nil
		if now.port != nil {
			if now.port != was.port {
				now.balancer = p.balancers.get(now.svc, now.port, now.local, addr.Is4(), now.version)
			}
			now.routing = p.routing(v, now.svc, now.port, now.local, addr.Is4())
		}
	}
	t.known.Store(&now)
	return &now
}

// opaque reports whether somebody said that this port is not to be looked into.
func (t *outboundTarget) opaque() bool {
	d := t.known.Load()
	if mesh.InRanges(d.local.Settings.OpaquePorts, t.dst.Port()) {
		return true
	}
	if d.port == nil {
		return false
	}
	for _, ep := range d.port.Endpoints {
		if ep.Workload != nil && mesh.InRanges(ep.Workload.Settings.OpaquePorts, ep.Addr.Port()) {
			return true
		}
	}
	return false
}

// errUnsaid: whoever is between the node and the controller could otherwise have
// plaintext sent to a pod of the mesh.
var errUnsaid = errors.New("the controller does not say whose address it is, and it may be in the mesh, or the client fails closed")

func (t *outboundTarget) pick(s *Session, c *Choice, to *place, exclude []netip.AddrPort) error {
	p := s.proxy
	d := t.look(p)
	if to == nil {
		to = &d.place
	}
	if to.svc == nil {
		if d.unsaid && (d.local.Settings.FailClosed || p.State.View().InRange(t.dst.Addr())) {
			return mesh.Fail(mesh.ReasonTimeout, errUnsaid)
		}
		return d.choose(p, c, mesh.Endpoint{Addr: t.dst, Workload: d.pod, Ready: true}, load{})
	}
	if to.port == nil {
		return mesh.Fail(mesh.ReasonNoEndpoints, errors.New("the service "+to.svc.Namespace+"/"+to.svc.Name+" has no such port"))
	}
	ticket, ok := s.pickBound(to, exclude)
	if !ok {
		ticket, ok = to.balance(d.local, t.dst.Addr(), exclude)
	}
	if !ok {
		return mesh.Fail(mesh.ReasonNoEndpoints, nil)
	}
	err := d.choose(p, c, ticket.Endpoint.Endpoint, newLoad(p, to.balancer, ticket))
	c.failover = to.balancer.Len() > len(exclude)+1
	if err != nil {
		c.Done()
	}
	return err
}

// balance picks among the endpoints of the place for local, a client that wants
// to go to dst.
func (to *place) balance(local *mesh.Workload, dst netip.Addr, exclude []netip.AddrPort) (balance.Ticket, bool) {
	now := balance.Now()
	if to.svc.SessionAffinity {
		return to.balancer.PickFor(now, ownAddress(local, dst, netip.Addr{}), exclude...)
	}
	return to.balancer.Pick(now, exclude...)
}

// choose decides how ep is reached, which it sets c to, and at once whether it
// may be where that is decided here.
func (d *destination) choose(p *Proxy, c *Choice, ep mesh.Endpoint, load load) error {
	*c = Choice{
		Key:  PoolKey{Source: d.local.UID, Addr: ep.Addr},
		Peer: tap.Peer{Addr: ep.Addr, Workload: ep.Workload},
		TLS:  tap.TLSNoIdentity,
		from: d.local, load: load,
	}
	w := ep.Workload
	switch {
	case w == nil || !w.Meshed || mesh.InRanges(w.Settings.SkipInboundPorts, ep.Addr.Port()):
	case w.Node != d.local.Node:
		c.mesh(d.local, w)
	case !p.Network.Enrolled(w.UID):
		// Being taken in, or failed to be: nobody would answer the handshake,
		// but for another agent of this node.
		if p.Network.Shared() {
			c.mesh(d.local, w)
		}
	case w.NetworkPolicy || d.local.NetworkPolicy:
		// A dial inside the pod's namespace would pass its veth by, and with
		// it whatever the CNI enforces there.
		c.mesh(d.local, w)
	default:
		verdict := policy.Decide(policy.Input{
			Client: d.local.Identity, ClientAddr: ownAddress(d.local, ep.Addr.Addr(), netip.Addr{}), Server: w, Port: ep.Addr.Port(),
		})
		if !verdict.Allowed {
			return mesh.Fail(verdict.Reason, nil)
		}
		if err := p.rateLimits.letIn(w, d.local.Identity); err != nil {
			return err
		}
		c.way, c.TLS = wayLocal, tap.TLSSameNode
		c.Peer.Identity = w.Identity
	}
	return nil
}

func (c *Choice) mesh(local, w *mesh.Workload) {
	c.mayFallBack = mayFallBack(local, w)
	c.way, c.TLS = wayMesh, tap.TLSTrue
	c.Key.Identity, c.Peer.Identity = w.Identity, w.Identity
}

// mayFallBack reports whether local may reach w in plaintext when no agent
// answers for it. Anybody on the way can see to that, so what the network says is
// no reason for it: either both sides were told to, or the controller has never
// heard that w is in the mesh, as where its node has no agent.
func mayFallBack(local, w *mesh.Workload) bool {
	from, to := &local.Settings, &w.Settings
	return from.Policy == mesh.PolicyAllow && to.Policy == mesh.PolicyAllow && !from.FailClosed &&
		(!w.Enrolled || from.PlaintextFallback && to.PlaintextFallback)
}

func (t *outboundTarget) dial(ctx context.Context, s *Session, c *Choice, alpn string) (Conn, error) {
	p := s.proxy
	switch c.way {
	case wayLocal:
		return p.dialApp(ctx, c, s.Source.Addr)
	case wayMesh:
		if alpn == mtls.ALPNMux {
			return p.dialShared(ctx, c)
		}
		return p.dialMesh(ctx, c.from, c, alpn)
	default:
		return p.dialOutside(ctx, c.from, c)
	}
}
