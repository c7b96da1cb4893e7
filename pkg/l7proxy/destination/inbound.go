package destination

import (
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy"
	"github.com/underlane/underlane/pkg/tap"
)

// Inbound is the target for connections to a pod of this node, at the address that the
// client connected to. It decides the pod's policy for each request.
type Inbound struct {
	directory *Directory
	local     atomic.Pointer[mesh.Workload] // Pick replaces it, while other streams of the session begin
	addr      netip.AddrPort
	fromNode  bool
}

// Inbound returns the target of a connection to local, a pod of this node, at addr.
// fromNode: the client counts as the node itself.
func (d *Directory) Inbound(local *mesh.Workload, addr netip.AddrPort, fromNode bool) *Inbound {
	t := &Inbound{directory: d, addr: addr, fromNode: fromNode}
	t.local.Store(local)
	return t
}

// Local returns the pod.
func (t *Inbound) Local() *mesh.Workload { return t.local.Load() }

// FromNode reports whether the client is the node itself.
func (t *Inbound) FromNode() bool { return t.fromNode }

// Service implements Target.
func (t *Inbound) Service() *mesh.Service { return nil }

// Routing implements Target. Routes apply at the client's side only.
func (t *Inbound) Routing() *Routing { return nil }

// Peer implements Target.
func (t *Inbound) Peer() tap.Peer {
	local := t.local.Load()
	return tap.Peer{Addr: t.addr, Workload: local, Identity: local.Identity}
}

// Egress implements Target.
func (t *Inbound) Egress() *Egress { return nil }

// HasRequestRules implements Target.
func (t *Inbound) HasRequestRules() bool {
	return t.directory.ruledAt(t.local.Load(), t.addr.Port())
}

// Opaque implements Target.
func (t *Inbound) Opaque() bool {
	return mesh.InRanges(t.local.Load().Settings.OpaquePorts, t.addr.Port())
}

// refresh returns the pod as it is now: its settings may have changed since the connection
// was accepted.
func (t *Inbound) refresh() *mesh.Workload {
	local := t.local.Load()
	if w, ok := t.directory.State.View().WorkloadByUID(local.UID); ok && w != local {
		t.local.Store(w)
		return w
	}
	return local
}

func (t *Inbound) input(local *mesh.Workload, client *tap.Peer) policy.Input {
	return policy.Input{
		Client:       client.Identity,
		ClientAddr:   client.Addr.Addr(),
		ClientIsNode: t.fromNode,
		Server:       local,
		Port:         t.addr.Port(),
	}
}

// Pick implements Target.
func (t *Inbound) Pick(a *endpoints.Attempt, q Query) error {
	if slices.Contains(q.Exclude, t.addr) {
		return mesh.Fail(mesh.ReasonNoEndpoints, nil) // the pod is the only endpoint
	}
	local := t.refresh()
	verdict := policy.Decide(t.input(local, q.Client))
	if !verdict.Allowed {
		return mesh.Fail(verdict.Reason, nil)
	}
	a.Reset()
	if err := t.directory.authorize(a, local, t.addr.Port(), q.Client, t.fromNode, q.Asked, &q); err != nil {
		return err
	}
	if !t.fromNode { // kubelet probes have no rate limit
		if err := t.directory.admitRate(local, t.addr.Port(), q.Client.Identity, q.Asked != nil); err != nil {
			return err
		}
	}
	to := &a.Endpoint
	to.Key.Session, to.Key.Addr = q.Session, t.addr
	to.Peer = tap.Peer{Addr: t.addr, Workload: local, Identity: local.Identity}
	to.Mode = upstream.SameNode
	a.Expect()
	return nil
}
