package destination

import (
	"net/netip"

	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// changes knows which pods have got other policies. Only the goroutine that calls
// ChangedPolicies uses it.
type changes struct {
	applied   map[string]applied // of pods of this node, at the view of the version appliedAt
	appliedAt uint64
	settling  map[string]int // pods whose policies have changed: for how many calls they still count as such
}

// applied is what was in force for a pod.
type applied struct {
	authorized bool
	mode       mesh.PolicyMode
	rules      *authz.Workload
}

// Changed are the pods of this node whose policies have changed.
type Changed struct {
	admission *admission
	pods      map[string]*mesh.Workload // by UID
	fresh     map[string]bool           // pods whose change was not known at the last call
}

// settles is for how many calls of ChangedPolicies a pod counts as changed: a connection
// that was decided before the change may still be dialled, for some seconds.
const settles = 10

// ChangedPolicies returns the pods of this node whose policies have changed within the last
// calls, nil if there are none, and the version of the view that was looked at. It is called
// every second, by one goroutine.
func (d *admission) ChangedPolicies() (*Changed, uint64) {
	v, c := d.State.View(), &d.changes
	if v.Version() != c.appliedAt {
		c.note(v)
	}
	if len(c.settling) == 0 {
		return nil, c.appliedAt
	}
	changed := &Changed{d, make(map[string]*mesh.Workload, len(c.settling)), make(map[string]bool)}
	for uid, left := range c.settling {
		changed.fresh[uid] = left == settles
		if w, ok := v.WorkloadByUID(uid); ok {
			changed.pods[uid] = w
		}
		if c.settling[uid] = left - 1; left <= 1 {
			delete(c.settling, uid)
		}
	}
	return changed, c.appliedAt
}

// Again makes the pod count as changed in the next call, too. It is called by the goroutine
// that calls ChangedPolicies.
func (c *Changed) Again(uid string) {
	settling := c.admission.changes.settling
	settling[uid] = max(1, settling[uid])
}

// note looks at the policies of a new view.
func (c *changes) note(v *state.View) {
	c.appliedAt = v.Version()
	now := make(map[string]applied, len(v.Local()))
	for _, w := range v.Local() {
		is := applied{w.Authorized, w.Settings.Policy, v.Authz(w.UID)}
		now[w.UID] = is
		was, known := c.applied[w.UID]
		if !known { // it may have been let in by other policies since the last call
			was.mode = mesh.PolicyAllow
		}
		if was != is {
			if c.settling == nil {
				c.settling = make(map[string]int)
			}
			c.settling[w.UID] = settles
		}
	}
	c.applied = now
}

// Inbound returns why a client may not be connected to the target of an inbound session any
// more, or nil. requests: the session carries requests, each of which is judged by itself.
func (c *Changed) Inbound(target Target, client netip.Addr, id mesh.Identity, requests bool) error {
	t, ok := target.(*Inbound)
	if !ok || t.fromNode {
		return nil
	}
	if w := c.pods[t.Local().UID]; w != nil {
		return c.judge(w, t.addr.Port(), client, id, requests)
	}
	return nil
}

// SameNode returns why client may not be connected to server at an address any more, both
// pods of this node, or nil. requests: the connection carries requests, whose heads are not
// kept: such connections are made while no policy looks at requests. If one does now, they are
// refused after the first second, as in Request.
func (c *Changed) SameNode(client, server *mesh.Workload, to netip.AddrPort, requests bool) error {
	if client == nil || server == nil {
		return nil
	}
	w := c.pods[server.UID]
	if w == nil {
		return nil
	}
	return c.judge(w, to.Port(), PodAddress(client, to.Addr(), netip.Addr{}), client.Identity, requests && c.fresh[w.UID])
}

// StillAllowed returns why a connection that is not read as requests, and that was admitted to ep some
// time ago, is not allowed any more, or nil. The error is a *mesh.ReasonError.
func StillAllowed(d *Directory, target Target, client *tap.Peer, ep *upstream.Endpoint, said Said) error {
	if t, ok := target.(*Inbound); ok {
		if t.fromNode {
			return nil
		}
		return d.judge(t.refresh(), t.addr.Port(), client.Addr.Addr(), client.Identity, false)
	}
	if t, ok := target.(*Outbound); ok {
		if err := t.Judge(said); err != nil {
			return err
		}
	}
	if ep.Mode != upstream.SameNode || ep.Client == nil || ep.Peer.Workload == nil {
		return nil
	}
	w, ok := d.State.View().WorkloadByUID(ep.Peer.Workload.UID)
	if !ok {
		return nil // the pod is gone, and its connections with it
	}
	return d.judge(w, ep.Peer.Addr.Port(), PodAddress(ep.Client, ep.Peer.Addr.Addr(), netip.Addr{}), ep.Client.Identity, false)
}

func (c *Changed) judge(w *mesh.Workload, port uint16, client netip.Addr, id mesh.Identity, requests bool) error {
	return c.admission.judge(w, port, client, id, requests)
}

// judge returns why a client may not be connected to a port of w, a pod of this node, or nil.
// requests: the connection carries requests, each of which is judged by itself. It remembers
// and counts nothing. The error is a *mesh.ReasonError.
func (d *admission) judge(w *mesh.Workload, port uint16, client netip.Addr, id mesh.Identity, requests bool) error {
	verdict := policy.Decide(policy.Input{Client: id, ClientAddr: client, Server: w, Port: port})
	if !verdict.Allowed {
		return mesh.Fail(verdict.Reason, nil)
	}
	if !w.Authorized {
		return nil
	}
	decision := d.State.View().Authz(w.UID).DecideConnection(&authz.Connection{Peer: d.peers.of(id), Client: client, Port: port})
	if !requests {
		decision = decision.Opaque()
	}
	if decision.Verdict == authz.Deny {
		return mesh.Fail(mesh.ReasonPolicyDenied, denial(&decision))
	}
	return nil
}
