package server

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/limit/lease"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/pmap"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/state"
)

// Content is the controller's whole state of the mesh at one moment.
type Content struct {
	Workloads []*mesh.Workload
	Services  []*mesh.Service
	Routes    []*mesh.Route
	Authz     map[string]*authz.Spec // policies of workloads, by UID; only of those that are Authorized or Limited
	Anchors   [][]byte               // DER
	// Egress are all EgressNetworks.
	Egress []*mesh.EgressNetwork
	// Nodes are the addresses at which nodes have the node ports of services.
	Nodes []netip.Addr
}

// Snapshot is the state of the mesh at one moment, encoded and indexed for the streams. It is
// immutable, and shares structure with the one before.
type Snapshot struct {
	version uint64
	anchors *resource
	ranges  *resource
	byName  pmap.Map[string, *resource]
	byNode  pmap.Map[string, []*mesh.Workload]
	byAddr  pmap.Map[netip.Addr, *holders] // pods and services that have an address
	// external has, by address, the services that are reached at a port of an
	// address that is not one of their VIPs. Several services may share one address.
	external pmap.Map[netip.Addr, []string]
	// nodes are the addresses of nodes, and nodePorts the services that are reached there.
	nodes     map[netip.Addr]bool
	nodePorts []string
	behind    pmap.Map[string, []string] // names of the workloads behind a service, by service
	routed    pmap.Map[string, []routed] // routes of a service, by service
	// backing has, by address, the services that have it as an endpoint. It is used if a pod of
	// the node is an ingress: only requests of an ingress name the service that they are for.
	backing pmap.Map[netip.Addr, []string]
	egress  egress
	shared  map[string]lease.Shared // limits that nodes share

	pods   int       // workloads
	recent []touched // what the last snapshots have changed, this one last; nil: it is not known
}

// holders are the pods and the services that have an address.
type holders struct {
	pods     []*mesh.Workload
	services []string // ascending
}

// name returns the resource that the address belongs to.
func (h *holders) name() string {
	if n := len(h.services); n > 0 {
		return h.services[n-1]
	}
	owner := h.pods[0]
	for _, w := range h.pods[1:] {
		if state.Supersedes(w, owner) {
			owner = w
		}
	}
	return state.WorkloadName(owner.UID)
}

// at returns the name of the resource that an address belongs to, "" for none.
func (s *Snapshot) at(addr netip.Addr) string {
	if h := s.byAddr.Get(addr); h != nil {
		return h.name()
	}
	return ""
}

// NewSnapshot encodes c. version must be greater than the version of last, the
// Snapshot that was published before. Equal resources are reused from last. last is
// nil for the first Snapshot. A Keeper does it for less if it is told what has changed.
func NewSnapshot(version uint64, c Content, last *Snapshot) *Snapshot {
	k := NewKeeper()
	k.reuse = last
	k.last.version = version - 1
	s := k.Apply(c.all())
	s.version, s.recent = version, nil
	return s
}

func isIngress(w *mesh.Workload) bool { return w.Meshed && w.Settings.Ingress }

func workloadsBehind(svc *mesh.Service) []string {
	var names []string
	for _, p := range svc.Ports {
		for _, e := range p.Endpoints {
			if e.WorkloadUID != "" {
				names = append(names, state.WorkloadName(e.WorkloadUID))
			}
		}
	}
	slices.Sort(names)
	return slices.Clone(slices.Compact(names)) // a Service may have several ports, and the list stays
}

// Version returns the version that was given to NewSnapshot.
func (s *Snapshot) Version() uint64 { return s.version }

// Equal reports whether s and other hold the same resources.
func (s *Snapshot) Equal(other *Snapshot) bool {
	if other == nil || s.byName.Len() != other.byName.Len() || !maps.Equal(s.nodes, other.nodes) {
		return false
	}
	for name, r := range s.byName.All() {
		if o := other.byName.Get(name); o == nil || o.version != r.version {
			return false
		}
	}
	return true
}

// hasIdentity reports whether a meshed pod of node has the identity id.
func (s *Snapshot) hasIdentity(node string, id mesh.Identity) bool {
	return slices.ContainsFunc(s.byNode.Get(node), func(w *mesh.Workload) bool {
		return w.Meshed && w.Identity == id
	})
}

// wanted calls yield for each resource that a node with these subscriptions should
// have. It may yield a resource more than once. Routes, ranges, policies and EgressNetworks
// are included if kinds has them.
func (s *Snapshot) wanted(node string, subs map[netip.Addr]struct{}, kinds kinds, yield func(*resource)) {
	if s.anchors != nil {
		yield(s.anchors)
	}
	if kinds.ranges {
		yield(s.ranges)
	}
	for _, w := range s.byNode.Get(node) {
		s.own(w, kinds.authz, yield)
	}
	var clients map[string]bool
	if kinds.routes && s.routed.Len() > 0 || kinds.egress && len(s.egress.networks) > 0 {
		clients = s.clients(node)
	}
	if kinds.egress {
		s.wantedEgress(clients, kinds.routes, yield)
	}
	if !kinds.routes {
		clients = nil
	}
	ingress := slices.ContainsFunc(s.byNode.Get(node), isIngress)
	service := func(name string) {
		s.withBehind(name, yield)
		s.withRoutes(name, clients, yield)
	}
	isNode := false
	for addr := range subs {
		yield(newAddress(addr, s.nodes[addr]))
		if name := s.at(addr); name != "" {
			service(name)
		}
		for _, name := range s.external.Get(addr) {
			service(name)
		}
		if ingress {
			for _, name := range s.backing.Get(addr) {
				service(name)
			}
		}
		isNode = isNode || s.nodes[addr]
	}
	if isNode {
		for _, name := range s.nodePorts {
			service(name)
		}
	}
}

// own yields a pod of the node itself. An agent that does not know authorization policies
// would admit everybody to a pod that has some: it gets the pod as a strict one instead.
func (s *Snapshot) own(w *mesh.Workload, authz bool, yield func(*resource)) {
	r := s.byName.Get(state.WorkloadName(w.UID))
	switch {
	case !w.Authorized && !w.Limited:
	case authz:
		if rules := s.byName.Get(state.AuthzName(w.UID)); rules != nil {
			yield(rules)
		}
	case w.Authorized:
		strict := *w
		strict.Settings.Policy = mesh.PolicyStrict
		r = newWorkload(&strict)
	}
	yield(r)
}

// withBehind yields a workload, or a service with its workloads.
func (s *Snapshot) withBehind(name string, yield func(*resource)) {
	r := s.byName.Get(name)
	if r == nil {
		return
	}
	yield(r)
	for _, behind := range s.behind.Get(name) {
		if r := s.byName.Get(behind); r != nil {
			yield(r)
		}
	}
}

// withRoutes yields the routes of a service that apply to clients of these
// namespaces, and the services that the routes name. It does not yield the routes
// of those services, because they do not apply to requests that a route has sent
// there.
func (s *Snapshot) withRoutes(name string, clients map[string]bool, yield func(*resource)) {
	all := s.routed.Get(name)
	for i := range all {
		r := &all[i]
		if clients == nil || r.client != "" && !clients[r.client] {
			continue
		}
		yield(r.route)
		for _, to := range r.leadTo {
			s.withBehind(to, yield)
		}
	}
}

// clients returns the namespaces that have meshed pods on a node.
func (s *Snapshot) clients(node string) map[string]bool {
	out := map[string]bool{}
	for _, w := range s.byNode.Get(node) {
		if w.Meshed {
			out[w.Namespace] = true
		}
	}
	return out
}

// routed is a route as it is stored with its parent Service.
type routed struct {
	route  *resource
	client string   // the namespace whose clients the route applies to; "" stands for all
	leadTo []string // the services that the route names
}
