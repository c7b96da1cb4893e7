package state

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/pmap"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// index is what a Store knows beside its View, to make the next one of what has changed.
type index struct {
	behind map[string]map[string]struct{} // services with an endpoint of a workload, by its UID
	// Who has a key that several have at the moment.
	addrs    contested[netip.Addr, *mesh.Workload]
	vips     contested[netip.Addr, *mesh.Service]
	external contested[netip.AddrPort, servicePort]
	ports    contested[uint16, servicePort]
}

func newIndex() index {
	return index{
		behind: map[string]map[string]struct{}{},
		addrs:  contested[netip.Addr, *mesh.Workload]{}, vips: contested[netip.Addr, *mesh.Service]{},
		external: contested[netip.AddrPort, servicePort]{}, ports: contested[uint16, servicePort]{},
	}
}

// contested has all who have a key, for keys that several have.
type contested[K, V comparable] map[K][]V

// add notes that v has a key. The map has the best of those who have it.
func (c contested[K, V]) add(m *pmap.Editor[K, V], k K, v V, better func(a, b V) bool) {
	old, taken := m.Find(k)
	if !taken {
		m.Set(k, v)
		return
	}
	if c[k] == nil {
		c[k] = []V{old}
	}
	c[k] = append(c[k], v)
	if better(v, old) {
		m.Set(k, v)
	}
}

// remove notes that v has a key no more.
func (c contested[K, V]) remove(m *pmap.Editor[K, V], k K, v V, better func(a, b V) bool) {
	all := c[k]
	if all == nil {
		m.Delete(k)
		return
	}
	if i := slices.Index(all, v); i >= 0 {
		all = slices.Delete(all, i, i+1)
	}
	best := all[0]
	for _, other := range all[1:] {
		if better(other, best) {
			best = other
		}
	}
	m.Set(k, best)
	if c[k] = all; len(all) == 1 {
		delete(c, k)
	}
}

// edit is the making of a View out of the one before.
type edit struct {
	*index
	v         *View
	node      string
	workloads *pmap.Editor[string, *mesh.Workload]
	services  *pmap.Editor[string, *mesh.Service]
	byName    *pmap.Editor[serviceName, *mesh.Service]
	routes    *pmap.Editor[serviceName, []*mesh.Route]
	outside   *pmap.Editor[serviceName, []*mesh.Route] // of EgressNetworks
	byAddr    *pmap.Editor[netip.Addr, *mesh.Workload]
	byVIP     *pmap.Editor[netip.Addr, *mesh.Service]
	atPort    *pmap.Editor[netip.AddrPort, servicePort]
	nodePorts *pmap.Editor[uint16, servicePort]
	answered  *pmap.Editor[netip.Addr, Address]
	authz     *pmap.Editor[string, *authz.Workload]
	relink    map[string]struct{} // services to be linked, by resource name
}

// replaced is a resource before and after; the zero Resource stands for none.
type replaced struct{ before, after Resource }

// build makes the next View. names has all resources. What has not changed is shared with
// last: a change costs what it changes, and a copy of the services whose endpoints it is about.
func (x *index) build(last *View, names map[string]Resource, changed map[string]replaced, node string) *View {
	next := *last
	e := &edit{
		index: x, v: &next, node: node,
		workloads: last.workloads.Edit(), services: last.services.Edit(), byName: last.byName.Edit(), routes: last.routes.Edit(),
		outside: last.egress.routes.Edit(), byAddr: last.byAddr.Edit(), byVIP: last.byVIP.Edit(), atPort: last.external.Edit(),
		nodePorts: last.nodePorts.Edit(), answered: last.answered.Edit(), authz: last.authz.Edit(), relink: map[string]struct{}{},
	}
	for name, r := range changed {
		e.replace(name, r.before, r.after)
	}
	for name := range e.relink {
		e.service(name, names[name].Service)
	}
	next.workloads, next.services, next.byName, next.routes = e.workloads.Map(), e.services.Map(), e.byName.Map(), e.routes.Map()
	next.byAddr, next.byVIP, next.external, next.nodePorts = e.byAddr.Map(), e.byVIP.Map(), e.atPort.Map(), e.nodePorts.Map()
	next.answered, next.authz, next.egress.routes = e.answered.Map(), e.authz.Map(), e.outside.Map()
	return &next
}

func (e *edit) replace(name string, before, after Resource) {
	if before.Workload != nil || after.Workload != nil {
		e.workload(before.Workload, after.Workload)
	}
	if before.Service != nil || after.Service != nil {
		e.backs(name, before.Service, after.Service)
		e.relink[name] = struct{}{}
	}
	if before.Route != nil || after.Route != nil {
		e.route(before.Route, after.Route)
	}
	if before.Egress != nil || after.Egress != nil {
		e.v.egress.change(before.Egress, after.Egress)
	}
	if before.Address != nil {
		e.answered.Delete(before.Address.Addr.Unmap())
	}
	if after.Address != nil {
		e.answered.Set(after.Address.Addr.Unmap(), *after.Address)
	}
	if before.Authz != nil {
		e.authz.Delete(before.Authz.UID)
	}
	if after.Authz != nil {
		e.authz.Set(after.Authz.UID, after.Authz.Rules)
	}
	if before.Anchors != nil || after.Anchors != nil {
		e.v.anchors = after.Anchors
	}
	if before.Ranges != nil || after.Ranges != nil {
		e.v.ranges = nil
		if after.Ranges != nil {
			e.v.ranges = after.Ranges.Prefixes
		}
	}
}

func (e *edit) workload(before, after *mesh.Workload) {
	if before != nil {
		e.workloads.Delete(before.UID)
		for _, addr := range uniqueAddrs(before) {
			e.addrs.remove(e.byAddr, addr, before, Supersedes)
		}
	}
	if after != nil {
		e.workloads.Set(after.UID, after)
		for _, addr := range uniqueAddrs(after) {
			e.addrs.add(e.byAddr, addr, after, Supersedes)
		}
	}
	of := before
	if of == nil {
		of = after
	}
	for name := range e.behind[of.UID] {
		e.relink[name] = struct{}{}
	}
	if before != nil && before.Node == e.node || after != nil && after.Node == e.node {
		local := slices.DeleteFunc(slices.Clone(e.v.local), func(w *mesh.Workload) bool { return w == before })
		if after != nil && after.Node == e.node {
			at, _ := slices.BinarySearchFunc(local, after, func(a, b *mesh.Workload) int { return cmp.Compare(a.UID, b.UID) })
			local = slices.Insert(local, at, after)
		}
		e.v.local = local
	}
}

// uniqueAddrs returns the addresses by which a pod is found, each once.
func uniqueAddrs(w *mesh.Workload) (out []netip.Addr) {
	if w.HostNetwork {
		return nil
	}
	for _, a := range w.Addrs {
		if a = a.Unmap(); !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// backs notes which workloads are behind a service.
func (e *edit) backs(name string, before, after *mesh.Service) {
	for uid := range uids(before) {
		if delete(e.behind[uid], name); len(e.behind[uid]) == 0 {
			delete(e.behind, uid)
		}
	}
	for uid := range uids(after) {
		if e.behind[uid] == nil {
			e.behind[uid] = map[string]struct{}{}
		}
		e.behind[uid][name] = struct{}{}
	}
}

func uids(s *mesh.Service) map[string]struct{} {
	out := map[string]struct{}{}
	if s == nil {
		return out
	}
	for i := range s.Ports {
		for j := range s.Ports[i].Endpoints {
			if uid := s.Ports[i].Endpoints[j].WorkloadUID; uid != "" {
				out[uid] = struct{}{}
			}
		}
	}
	return out
}

func (e *edit) route(before, after *mesh.Route) {
	list := func(r *mesh.Route, change func([]*mesh.Route) []*mesh.Route) {
		m, at := e.routes, serviceName{r.Parent.Namespace, r.Parent.Name}
		if r.Egress {
			m = e.outside
		}
		if now := change(slices.Clone(m.Get(at))); len(now) == 0 {
			m.Delete(at)
		} else {
			slices.SortFunc(now, routeOrder)
			m.Set(at, now)
		}
	}
	if before != nil {
		list(before, func(all []*mesh.Route) []*mesh.Route {
			return slices.DeleteFunc(all, func(r *mesh.Route) bool { return r == before })
		})
	}
	if after != nil {
		list(after, func(all []*mesh.Route) []*mesh.Route { return append(all, after) })
	}
}

// service links a service anew; nil stands for none.
func (e *edit) service(name string, now *mesh.Service) {
	if old := e.services.Get(name); old != nil {
		e.services.Delete(name)
		e.byName.Delete(serviceName{old.Namespace, old.Name})
		for _, vip := range uniqueVIPs(old) {
			e.vips.remove(e.byVIP, vip, old, laterService)
		}
		e.ports(old, e.external.remove, e.index.ports.remove)
	}
	if now == nil {
		return
	}
	s := link(now, e.workloads)
	e.services.Set(name, s)
	e.byName.Set(serviceName{s.Namespace, s.Name}, s)
	for _, vip := range uniqueVIPs(s) {
		e.vips.add(e.byVIP, vip, s, laterService)
	}
	e.ports(s, e.external.add, e.index.ports.add)
}

func uniqueVIPs(s *mesh.Service) (out []netip.Addr) {
	for _, a := range s.VIPs {
		if a = a.Unmap(); !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

type better = func(a, b servicePort) bool

// ports calls external for the external addresses of s, and node for its node ports. The
// controller gives each of them, with its port, to one Service only. During a change two
// services may have it for a moment.
func (e *edit) ports(s *mesh.Service, external func(*pmap.Editor[netip.AddrPort, servicePort], netip.AddrPort, servicePort, better), node func(*pmap.Editor[uint16, servicePort], uint16, servicePort, better)) {
	at := map[netip.AddrPort]bool{}
	nodes := map[uint16]bool{}
	for i := range s.Ports {
		p := &s.Ports[i]
		for _, addr := range p.External {
			if k := netip.AddrPortFrom(addr.Unmap(), p.Port); !at[k] {
				at[k] = true
				external(e.atPort, k, servicePort{s, p}, laterPort)
			}
		}
		if p.NodePort != 0 && !nodes[p.NodePort] {
			nodes[p.NodePort] = true
			node(e.nodePorts, p.NodePort, servicePort{s, p}, laterPort)
		}
	}
}

// Of several services that have the same, the last by name has it.
func laterService(a, b *mesh.Service) bool { return serviceLess(b, a) }
func laterPort(a, b servicePort) bool      { return serviceLess(b.svc, a.svc) }

// Supersedes reports whether an address that both a and b have counts as a's. Two pods have
// the same address for a moment when a new pod gets the address of a terminating one.
func Supersedes(a, b *mesh.Workload) bool {
	if a.Ready != b.Ready {
		return a.Ready
	}
	return a.UID > b.UID
}

func serviceLess(a, b *mesh.Service) bool {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name)) < 0
}

// routeOrder sorts by age, so that a list does not depend on the order of arrival.
func routeOrder(a, b *mesh.Route) int {
	return cmp.Or(
		a.Created.Compare(b.Created), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Parent.Port, b.Parent.Port),
	)
}

// link returns a copy of s whose endpoints point into workloads.
func link(s *mesh.Service, workloads *pmap.Editor[string, *mesh.Workload]) *mesh.Service {
	out := *s
	out.Ports = slices.Clone(s.Ports)
	for i := range out.Ports {
		endpoints := slices.Clone(out.Ports[i].Endpoints)
		for j := range endpoints {
			endpoints[j].Workload = workloads.Get(endpoints[j].WorkloadUID)
		}
		out.Ports[i].Endpoints = endpoints
	}
	return &out
}
