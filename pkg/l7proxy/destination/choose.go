package destination

import (
	"net/netip"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy"
	"github.com/underlane/underlane/pkg/tap"
)

// choose sets a to ep, and decides how local reaches it. If ep is on this node and policy
// is decided here, it returns the error of the policy. q.Asked is only remembered: a
// policy that looks at requests is not decided here. Without it, the connection is not read
// as requests.
func (d *Directory) choose(a *endpoints.Attempt, local *mesh.Workload, ep *mesh.Endpoint, q *Query) (err error) {
	a.Reset()
	w, to := ep.Workload, &a.Endpoint
	to.Key.Source, to.Key.Addr = local.UID, ep.Addr
	to.Peer.Addr, to.Peer.Workload = ep.Addr, w
	to.Client, to.Mode = local, d.mode(local, ep)
	switch to.Mode {
	case upstream.MTLS:
		to.Fallback = mayFallBack(local, w)
		to.Key.Identity, to.Peer.Identity = w.Identity, w.Identity
	case upstream.SameNode:
		if err = d.admit(a, local, ep, q); err == nil {
			to.Peer.Identity = w.Identity
		}
	}
	a.Expect()
	return err
}

// mode returns how local reaches ep.
func (d *Directory) mode(local *mesh.Workload, ep *mesh.Endpoint) upstream.Mode {
	w := ep.Workload
	switch {
	case w == nil || !w.Meshed || mesh.InRanges(w.Settings.SkipInboundPorts, ep.Addr.Port()):
		return upstream.Plaintext
	case w.Node != local.Node:
		return upstream.MTLS
	case !d.Network.Enrolled(w.UID):
		// The pod's enrolment is under way or has failed. Only another agent of this
		// node, during a handover, could answer a handshake.
		if d.Network.Shared() {
			return upstream.MTLS
		}
		return upstream.Plaintext
	case w.NetworkPolicy || local.NetworkPolicy:
		// A connection made inside the pod's namespace does not go through its veth,
		// where the CNI enforces the NetworkPolicy.
		return upstream.MTLS
	case w.RequestRules:
		// The policies of requests are decided where they arrive, and as they arrive: the
		// client's routes may have changed them.
		return upstream.MTLS
	}
	return upstream.SameNode
}

// admit decides whether local may connect to ep, which is on this node.
func (d *Directory) admit(a *endpoints.Attempt, local *mesh.Workload, ep *mesh.Endpoint, q *Query) error {
	addr := PodAddress(local, ep.Addr.Addr(), netip.Addr{})
	verdict := policy.Decide(policy.Input{
		Client: local.Identity, ClientAddr: addr, Server: ep.Workload, Port: ep.Addr.Port(),
	})
	if !verdict.Allowed {
		return mesh.Fail(verdict.Reason, nil)
	}
	if ep.Workload.Authorized {
		client := &tap.Peer{Identity: local.Identity, Addr: netip.AddrPortFrom(addr, 0)}
		if err := d.authorize(a, ep.Workload, ep.Addr.Port(), client, false, nil, q); err != nil {
			return err
		}
	}
	return d.admitRate(ep.Workload, ep.Addr.Port(), local.Identity, q.Asked != nil)
}

// mayFallBack reports whether local may reach w in plaintext if no agent answers for w.
// An attacker on the path can cause that, so it is not enough that no agent answers.
// Either the settings of both sides must allow plaintext, or the controller has never
// learned that w was enrolled, for example because its node has no agent.
func mayFallBack(local, w *mesh.Workload) bool {
	from, to := &local.Settings, &w.Settings
	return from.Policy == mesh.PolicyAllow && !w.Closed() && !from.FailClosed &&
		(!w.Enrolled || from.PlaintextFallback && to.PlaintextFallback)
}
