package destination

import (
	"net/netip"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy"
	"github.com/underlane/underlane/pkg/tap"
)

// choose decides how local reaches ep, which it sets a to, and at once whether it
// may where that is decided here.
func (d *Directory) choose(a *endpoints.Attempt, local *mesh.Workload, ep mesh.Endpoint) error {
	w := ep.Workload
	to := upstream.Endpoint{
		Key:    upstream.Key{Source: local.UID, Addr: ep.Addr},
		Peer:   tap.Peer{Addr: ep.Addr, Workload: w},
		Client: local,
		Mode:   d.mode(local, ep),
	}
	var err error
	switch to.Mode {
	case upstream.MTLS:
		to.Fallback = mayFallBack(local, w)
		to.Key.Identity, to.Peer.Identity = w.Identity, w.Identity
	case upstream.SameNode:
		if err = d.admit(local, ep); err == nil {
			to.Peer.Identity = w.Identity
		}
	}
	a.To(to)
	return err
}

// mode is how local reaches ep.
func (d *Directory) mode(local *mesh.Workload, ep mesh.Endpoint) upstream.Mode {
	w := ep.Workload
	switch {
	case w == nil || !w.Meshed || mesh.InRanges(w.Settings.SkipInboundPorts, ep.Addr.Port()):
		return upstream.Plaintext
	case w.Node != local.Node:
		return upstream.MTLS
	case !d.Network.Enrolled(w.UID):
		// Its enrolment is under way, or has failed: the handshake would not be
		// answered, but by another agent of this node.
		if d.Network.Shared() {
			return upstream.MTLS
		}
		return upstream.Plaintext
	case w.NetworkPolicy || local.NetworkPolicy:
		// A dial inside the pod's namespace would pass its veth by, and with
		// it whatever the CNI enforces there.
		return upstream.MTLS
	}
	return upstream.SameNode
}

// admit decides whether local may come in at ep, which is on this node.
func (d *Directory) admit(local *mesh.Workload, ep mesh.Endpoint) error {
	verdict := policy.Decide(policy.Input{
		Client: local.Identity, ClientAddr: OwnAddress(local, ep.Addr.Addr(), netip.Addr{}), Server: ep.Workload, Port: ep.Addr.Port(),
	})
	if !verdict.Allowed {
		return mesh.Fail(verdict.Reason, nil)
	}
	return d.rateLimits.admit(ep.Workload, local.Identity)
}

// mayFallBack reports whether local may reach w in plaintext when no agent answers
// for it. An attacker on the path can see to that, so what the network says is no
// reason for it: either both sides were told to, or the controller has never heard
// that w is in the mesh, as where its node has no agent.
func mayFallBack(local, w *mesh.Workload) bool {
	from, to := &local.Settings, &w.Settings
	return from.Policy == mesh.PolicyAllow && to.Policy == mesh.PolicyAllow && !from.FailClosed &&
		(!w.Enrolled || from.PlaintextFallback && to.PlaintextFallback)
}
