package l7proxy

import (
	"net/netip"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
)

// judgeAnew cuts connections that were admitted, and that the policies of their pod do not
// allow any more. Run calls it every second. It does nothing while no policies have changed.
//
// A connection of requests is judged by what is known of all of its requests: one that a
// rule on requests would not allow any more ends by itself, and the next one is refused.
func (p *Proxy) judgeAnew() {
	p.judgeEgress()
	changed, version := p.directory.ChangedPolicies()
	defer p.judged.Store(version)
	if changed == nil {
		return
	}
	revoke := func(s *request.Session, err error) {
		if err != nil {
			p.revoked.Add(1)
			p.Log.Debug("connection cut: the policy of the pod has changed", "client", s.Source.Addr, "destination", s.Original, "cause", err)
			s.Revoke(mesh.ReasonPolicyDenied)
		}
	}
	requests := func(s *request.Session) {
		if s.Direction == mesh.Inbound {
			revoke(s, changed.Inbound(s.Target, s.Source.Addr.Addr(), s.Source.Identity, true))
		}
	}
	p.h1.Each(requests)
	p.h2.Each(requests)
	p.core.Opaque.Each(func(o *request.Opaque) {
		switch s, ep := o.Session, o.Endpoint; {
		case s.Direction == mesh.Inbound:
			revoke(s, changed.Inbound(s.Target, s.Source.Addr.Addr(), s.Source.Identity, false))
		case ep.Mode == upstream.SameNode:
			revoke(s, changed.SameNode(ep.Client, ep.Peer.Workload, ep.Peer.Addr, false))
		}
	})
	// A client of this node may have requests to several pods on one connection: those to the
	// pod fail, and the client's connection stays.
	p.revoked.Add(uint64(p.upstream.RevokeShortcuts(func(client, server *mesh.Workload, to netip.AddrPort) error {
		return changed.SameNode(client, server, to, true)
	})))
}

// judgeEgress cuts opaque connections to destinations outside the mesh that EgressNetworks
// do not allow any more. It does nothing while the state has not changed, or has no
// EgressNetworks. Requests are judged one by one.
func (p *Proxy) judgeEgress() {
	v := p.State.View()
	if !v.HasEgress() || v.Version() == p.egressJudged {
		return
	}
	p.egressJudged = v.Version()
	p.core.Opaque.Each(func(o *request.Opaque) {
		s := o.Session
		target, ok := s.Target.(*destination.Outbound)
		if !ok {
			return
		}
		if err := target.Judge(s.Said); err != nil {
			p.revoked.Add(1)
			p.Log.Debug("connection cut: an EgressNetwork does not allow it any more", "client", s.Source.Addr, "destination", s.Original, "cause", err)
			s.Revoke(upstream.ReasonOf(err))
		}
	})
}
