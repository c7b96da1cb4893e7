package server

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/control/codec"
	"github.com/underlane/underlane/pkg/limit/lease"
	"github.com/underlane/underlane/pkg/mesh"
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

// Snapshot is a Content that is encoded and indexed for the streams. It is
// immutable.
type Snapshot struct {
	version uint64
	anchors *pb.Resource
	ranges  *pb.Resource
	byName  map[string]*pb.Resource
	byNode  map[string][]*mesh.Workload
	byAddr  map[netip.Addr]string // name of the resource, by the address of a pod or service
	// external has, by address, the services that are reached at a port of an
	// address that is not one of their VIPs. Several services may share one address.
	external map[netip.Addr][]string
	// nodes are the addresses of nodes, and nodePorts the services that are reached there.
	nodes     map[netip.Addr]bool
	nodePorts []string
	behind    map[string][]string // names of the workloads behind a service, by service
	routed    map[string][]routed // routes of a service, by service
	// backing has, by address, the services that have it as an endpoint. It is nil if no
	// pod is an ingress: only requests of an ingress name the service that they are for.
	backing map[netip.Addr][]string
	egress  egress
	shared  map[string]lease.Shared // limits that nodes share
}

// NewSnapshot encodes c. version must be greater than the version of last, the
// Snapshot that was published before. Equal resources are reused from last. last is
// nil for the first Snapshot.
func NewSnapshot(version uint64, c Content, last *Snapshot) *Snapshot {
	s := &Snapshot{
		version:  version,
		byName:   make(map[string]*pb.Resource, len(c.Workloads)+len(c.Services)),
		byNode:   map[string][]*mesh.Workload{},
		byAddr:   make(map[netip.Addr]string, len(c.Workloads)+len(c.Services)),
		behind:   make(map[string][]string, len(c.Services)),
		external: map[netip.Addr][]string{},
		routed:   map[string][]routed{},
		nodes:    make(map[netip.Addr]bool, len(c.Nodes)),
	}
	for _, a := range c.Nodes {
		s.nodes[a.Unmap()] = true
	}
	owner := map[netip.Addr]*mesh.Workload{}
	for _, w := range c.Workloads {
		r := s.add(codec.EncodeWorkload(w), last)
		s.byNode[w.Node] = append(s.byNode[w.Node], w)
		if w.HostNetwork {
			continue
		}
		for _, a := range w.Addrs {
			a = a.Unmap()
			if old := owner[a]; old == nil || state.Supersedes(w, old) {
				owner[a] = w
				s.byAddr[a] = r.Name
			}
		}
	}
	for _, svc := range c.Services {
		r := s.add(codec.EncodeService(svc), last)
		for _, a := range svc.VIPs {
			s.byAddr[a.Unmap()] = r.Name
		}
		for _, p := range svc.Ports {
			for _, a := range p.External {
				if a = a.Unmap(); !slices.Contains(s.external[a], r.Name) {
					s.external[a] = append(s.external[a], r.Name)
				}
			}
		}
		if slices.ContainsFunc(svc.Ports, func(p mesh.ServicePort) bool { return p.NodePort != 0 }) {
			s.nodePorts = append(s.nodePorts, r.Name)
		}
		s.behind[r.Name] = workloadsBehind(svc)
	}
	if slices.ContainsFunc(c.Workloads, isIngress) {
		s.backing = backing(c.Services)
	}
	s.shared = sharedLimits(&c)
	for uid, spec := range c.Authz {
		s.add(codec.EncodeAuthz(uid, spec), last)
	}
	for _, n := range c.Egress {
		s.addEgress(n, last)
	}
	for _, r := range c.Routes {
		if r.Egress {
			s.addEgressRoute(r, last)
		} else {
			s.addRoute(r, last)
		}
	}
	s.ranges = s.add(codec.EncodeRanges(rangesOf(&c)), last)
	if len(c.Anchors) > 0 {
		s.anchors = s.add(codec.EncodeAnchors(c.Anchors), last)
	}
	return s
}

func isIngress(w *mesh.Workload) bool { return w.Meshed && w.Settings.Ingress }

// backing returns the names of the services by the addresses of their endpoints.
func backing(services []*mesh.Service) map[netip.Addr][]string {
	out := map[netip.Addr][]string{}
	for _, svc := range services {
		name := state.ServiceName(svc.Namespace, svc.Name)
		for _, p := range svc.Ports {
			for _, e := range p.Endpoints {
				addr := e.Addr.Addr().Unmap()
				if names := out[addr]; len(names) == 0 || names[len(names)-1] != name {
					out[addr] = append(names, name)
				}
			}
		}
	}
	return out
}

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
	return slices.Compact(names)
}

// add sets the version of r to a hash of its content and stores r by its name.
func (s *Snapshot) add(r *pb.Resource, last *Snapshot) *pb.Resource {
	versioned(r)
	if last != nil {
		if old := last.byName[r.Name]; old != nil && old.Version == r.Version {
			r = old
		}
	}
	s.byName[r.Name] = r
	return r
}

// versioned sets the version of r to a hash of its content, and returns r.
func versioned(r *pb.Resource) *pb.Resource {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
	if err != nil {
		// This happens only for a string that is not UTF-8. All strings come from
		// Kubernetes objects, which were JSON or YAML.
		b = []byte(r.Name)
	}
	sum := sha256.Sum256(b)
	r.Version = base64.RawURLEncoding.EncodeToString(sum[:12])
	return r
}

// Version returns the version that was given to NewSnapshot.
func (s *Snapshot) Version() uint64 { return s.version }

// Equal reports whether s and other hold the same resources.
func (s *Snapshot) Equal(other *Snapshot) bool {
	if other == nil || len(s.byName) != len(other.byName) || !maps.Equal(s.nodes, other.nodes) {
		return false
	}
	for name, r := range s.byName {
		if o := other.byName[name]; o == nil || o.Version != r.Version {
			return false
		}
	}
	return true
}

// hasIdentity reports whether a meshed pod of node has the identity id.
func (s *Snapshot) hasIdentity(node string, id mesh.Identity) bool {
	return slices.ContainsFunc(s.byNode[node], func(w *mesh.Workload) bool {
		return w.Meshed && w.Identity == id
	})
}

// wanted calls yield for each resource that a node with these subscriptions should
// have. It may yield a resource more than once. Routes, ranges, policies and EgressNetworks
// are included if kinds has them.
func (s *Snapshot) wanted(node string, subs map[netip.Addr]struct{}, kinds kinds, yield func(*pb.Resource)) {
	if s.anchors != nil {
		yield(s.anchors)
	}
	if kinds.ranges {
		yield(s.ranges)
	}
	for _, w := range s.byNode[node] {
		s.own(w, kinds.authz, yield)
	}
	var clients map[string]bool
	if kinds.routes && len(s.routed) > 0 || kinds.egress && len(s.egress.networks) > 0 {
		clients = s.clients(node)
	}
	if kinds.egress {
		s.wantedEgress(clients, kinds.routes, yield)
	}
	if !kinds.routes {
		clients = nil
	}
	var backing map[netip.Addr][]string
	if slices.ContainsFunc(s.byNode[node], isIngress) {
		backing = s.backing
	}
	service := func(name string) {
		s.withBehind(name, yield)
		s.withRoutes(name, clients, yield)
	}
	isNode := false
	for addr := range subs {
		yield(codec.EncodeAddress(addr, s.nodes[addr]))
		if name, ok := s.byAddr[addr]; ok {
			service(name)
		}
		for _, name := range s.external[addr] {
			service(name)
		}
		for _, name := range backing[addr] {
			service(name)
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
func (s *Snapshot) own(w *mesh.Workload, authz bool, yield func(*pb.Resource)) {
	r := s.byName[state.WorkloadName(w.UID)]
	switch {
	case !w.Authorized && !w.Limited:
	case authz:
		if rules := s.byName[state.AuthzName(w.UID)]; rules != nil {
			yield(rules)
		}
	case w.Authorized:
		strict := *w
		strict.Settings.Policy = mesh.PolicyStrict
		r = versioned(codec.EncodeWorkload(&strict))
	}
	yield(r)
}

// withBehind yields a workload, or a service with its workloads.
func (s *Snapshot) withBehind(name string, yield func(*pb.Resource)) {
	r := s.byName[name]
	if r == nil {
		return
	}
	yield(r)
	for _, behind := range s.behind[name] {
		if r := s.byName[behind]; r != nil {
			yield(r)
		}
	}
}

// withRoutes yields the routes of a service that apply to clients of these
// namespaces, and the services that the routes name. It does not yield the routes
// of those services, because they do not apply to requests that a route has sent
// there.
func (s *Snapshot) withRoutes(name string, clients map[string]bool, yield func(*pb.Resource)) {
	for i := range s.routed[name] {
		r := &s.routed[name][i]
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
	for _, w := range s.byNode[node] {
		if w.Meshed {
			out[w.Namespace] = true
		}
	}
	return out
}

// routed is a route as it is stored with its parent Service.
type routed struct {
	route  *pb.Resource
	client string   // the namespace whose clients the route applies to; "" stands for all
	leadTo []string // the services that the route names
}

func (s *Snapshot) addRoute(r *mesh.Route, last *Snapshot) {
	parent := state.ServiceName(r.Parent.Namespace, r.Parent.Name)
	s.routed[parent] = append(s.routed[parent], s.routedBy(r, parent, last))
}

// routedBy stores a route. parent is the name of the Service that is its parent, if it is
// one.
func (s *Snapshot) routedBy(r *mesh.Route, parent string, last *Snapshot) routed {
	to := routed{route: s.add(codec.EncodeRoute(r), last)}
	if r.Consumer() {
		to.client = r.Namespace
	}
	for service := range r.Services() {
		name := state.ServiceName(service.Namespace, service.Name)
		if name != parent && !slices.Contains(to.leadTo, name) {
			to.leadTo = append(to.leadTo, name)
		}
	}
	return to
}
