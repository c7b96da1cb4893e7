package state

import (
	"iter"
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/pmap"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// View is the part of the mesh's state that this node subscribes to, at one moment. It is
// immutable, and shares with the View before what has not changed. Its methods are safe for concurrent use and allocate nothing. Addresses may
// be given v4-mapped. The methods return shared values: do not modify them.
type View struct {
	version  uint64
	upstream uint64
	synced   bool

	workloads pmap.Map[string, *mesh.Workload] // by UID
	services  pmap.Map[string, *mesh.Service]  // by resource name

	byName    pmap.Map[serviceName, *mesh.Service]
	routes    pmap.Map[serviceName, []*mesh.Route] // by parent
	byAddr    pmap.Map[netip.Addr, *mesh.Workload]
	byVIP     pmap.Map[netip.Addr, *mesh.Service]
	external  pmap.Map[netip.AddrPort, servicePort]
	nodePorts pmap.Map[uint16, servicePort]
	answered  pmap.Map[netip.Addr, Address]
	authz     pmap.Map[string, *authz.Workload] // by UID
	local     []*mesh.Workload
	anchors   *Anchors
	ranges    []netip.Prefix
	egress    egress
}

type serviceName struct{ namespace, name string }

type servicePort struct {
	svc  *mesh.Service
	port *mesh.ServicePort
}

// Workload returns the pod that has addr. Pods on the host's network are not
// found by address: they share it with their node.
func (v *View) Workload(addr netip.Addr) (*mesh.Workload, bool) {
	return v.byAddr.Find(addr.Unmap())
}

// WorkloadByUID returns the pod with this UID.
func (v *View) WorkloadByUID(uid string) (*mesh.Workload, bool) {
	return v.workloads.Find(uid)
}

// Service returns the service that is reached at this address and port, by its
// ClusterIP, an external address or a node port. If the address is a ClusterIP and the service does
// not have the port, it returns the service, nil and false, because no other server can
// have this address. At an external address there may be another server.
func (v *View) Service(addr netip.AddrPort) (*mesh.Service, *mesh.ServicePort, bool) {
	s, ok := v.byVIP.Find(addr.Addr().Unmap())
	if !ok {
		return v.externalService(netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()))
	}
	for i := range s.Ports {
		if s.Ports[i].Port == addr.Port() {
			return s, &s.Ports[i], true
		}
	}
	return s, nil, false
}

// externalService returns the service with this external address and port, or with this
// node port. If a pod has the address too, the address counts as the pod's.
func (v *View) externalService(addr netip.AddrPort) (*mesh.Service, *mesh.ServicePort, bool) {
	at, ok := v.external.Find(addr)
	if !ok && v.answered.Get(addr.Addr()).Node {
		at, ok = v.nodePorts.Find(addr.Port())
		ok = ok && hasFamily(at.svc, addr.Addr())
	}
	if !ok || v.byAddr.Get(addr.Addr()) != nil {
		return nil, nil, false
	}
	return at.svc, at.port, true
}

// hasFamily reports whether s has a ClusterIP of the family of addr: a service has its node
// ports at the nodes' addresses of these families only.
func hasFamily(s *mesh.Service, addr netip.Addr) bool {
	for _, vip := range s.VIPs {
		if vip.Unmap().Is4() == addr.Is4() {
			return true
		}
	}
	return false
}

// ServiceVIP returns the service with this ClusterIP.
func (v *View) ServiceVIP(addr netip.Addr) (*mesh.Service, bool) {
	return v.byVIP.Find(addr.Unmap())
}

// ServiceByName returns a service that the node knows: one it subscribes to, or
// one that a route of such a service sends requests to.
func (v *View) ServiceByName(namespace, name string) (*mesh.Service, bool) {
	return v.byName.Find(serviceName{namespace, name})
}

// Routes returns the routes whose parent is s, for any of its ports and for
// clients of any namespace, the oldest first. The slice keeps its identity while
// they stay the same, so that callers can cache what they make of it.
func (v *View) Routes(s *mesh.Service) []*mesh.Route {
	return v.routes.Get(serviceName{s.Namespace, s.Name})
}

// Authz returns the authorization policies of a pod of this node. It is nil if this node
// does not have them: then no client may connect to a pod that is Authorized. The value is
// the same one until the policies change.
func (v *View) Authz(uid string) *authz.Workload { return v.authz.Get(uid) }

// Local returns the pods of this node, meshed or not, sorted by UID.
func (v *View) Local() []*mesh.Workload { return v.local }

// Workloads returns the pods that this node knows, of all nodes and in no particular order.
func (v *View) Workloads() iter.Seq[*mesh.Workload] { return v.workloads.Values() }

// InNamespace returns the pods of a namespace that this node knows, of all nodes and in no
// particular order. It visits all pods.
func (v *View) InNamespace(namespace string) iter.Seq[*mesh.Workload] {
	return func(yield func(*mesh.Workload) bool) {
		for w := range v.workloads.Values() {
			if w.Namespace == namespace && !yield(w) {
				return
			}
		}
	}
}

// Answered reports whether the controller has answered about addr: that it is a
// workload's, a service's, or unknown.
func (v *View) Answered(addr netip.Addr) bool {
	addr = addr.Unmap()
	if _, ok := v.answered.Find(addr); ok {
		return true
	}
	if _, ok := v.byVIP.Find(addr); ok {
		return true
	}
	_, ok := v.byAddr.Find(addr)
	return ok
}

// Told reports whether the controller has answered a subscription to addr: the view then
// has all that the controller sends with the answer. Answered is true before that of an
// address that another answer has brought.
func (v *View) Told(addr netip.Addr) bool {
	_, ok := v.answered.Find(addr.Unmap())
	return ok
}

// InRange reports whether addr is in a range in which the mesh has addresses. Until the
// controller answers about it, it may be the address of a meshed pod.
func (v *View) InRange(addr netip.Addr) bool {
	addr = addr.Unmap()
	return slices.ContainsFunc(v.ranges, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Anchors returns the trust bundle as DER certificates, nil before the first
// delta. The slice keeps its identity while the bundle stays the same.
func (v *View) Anchors() [][]byte {
	if v.anchors == nil {
		return nil
	}
	return v.anchors.DER
}

// Synced reports whether the controller has sent all of the node's pods at least once. It
// stays true while the controller is away.
func (v *View) Synced() bool { return v.synced }

// Version counts the Views of this Store: a newer View has a greater version.
func (v *View) Version() uint64 { return v.version }
