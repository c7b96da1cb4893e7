package state

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// build makes the View of names. Values of last are reused, except those whose
// resource is in changed and services with an endpoint that changed.
func build(last *View, names map[string]Resource, changed map[string]bool, node string) *View {
	v := &View{
		workloads: make(map[string]*mesh.Workload, len(last.workloads)),
		services:  make(map[string]*mesh.Service, len(last.services)),
		byAddr:    make(map[netip.Addr]*mesh.Workload, len(last.byAddr)),
		byVIP:     make(map[netip.Addr]*mesh.Service, len(last.byVIP)),
		external:  make(map[netip.AddrPort]servicePort, len(last.external)),
		answered:  make(map[netip.Addr]Address, len(last.answered)),
		nodePorts: make(map[uint16]servicePort, len(last.nodePorts)),
		byName:    make(map[serviceName]*mesh.Service, len(last.byName)),
		routes:    make(map[serviceName][]*mesh.Route, len(last.routes)),
	}
	for _, r := range names {
		switch {
		case r.Workload != nil:
			v.addWorkload(r.Workload, node)
		case r.Address != nil:
			v.answered[r.Address.Addr.Unmap()] = *r.Address
		case r.Anchors != nil:
			v.anchors = r.Anchors
		case r.Ranges != nil:
			v.ranges = r.Ranges.Prefixes
		case r.Authz != nil:
			if v.authz == nil {
				v.authz = make(map[string]*authz.Workload, len(last.authz))
			}
			v.authz[r.Authz.UID] = r.Authz.Rules
		case r.Egress != nil:
			v.egress.add(r.Egress)
		case r.Route != nil && r.Route.Egress:
			v.egress.addRoute(r.Route)
		case r.Route != nil:
			at := serviceName{r.Route.Parent.Namespace, r.Route.Parent.Name}
			v.routes[at] = append(v.routes[at], r.Route)
		}
	}
	for at, routes := range v.routes {
		slices.SortFunc(routes, routeOrder)
		if old := last.routes[at]; slices.Equal(old, routes) {
			v.routes[at] = old
		}
	}
	v.egress.finish(&last.egress)
	slices.SortFunc(v.local, func(a, b *mesh.Workload) int { return cmp.Compare(a.UID, b.UID) })
	for name, r := range names {
		if r.Service == nil {
			continue
		}
		s := last.services[name]
		if s == nil || changed[name] || relinked(r.Service, changed) {
			s = link(r.Service, v.workloads)
		}
		v.services[name] = s
		v.byName[serviceName{s.Namespace, s.Name}] = s
		for _, vip := range s.VIPs {
			vip = vip.Unmap()
			if old := v.byVIP[vip]; old == nil || serviceLess(old, s) {
				v.byVIP[vip] = s
			}
		}
		v.addExternal(s)
	}
	return v
}

// addExternal indexes the external addresses and node ports of s. The controller gives each
// of them, with its port, to one Service only. During a change two services may have it for a moment.
func (v *View) addExternal(s *mesh.Service) {
	for i := range s.Ports {
		p := &s.Ports[i]
		for _, addr := range p.External {
			at := netip.AddrPortFrom(addr.Unmap(), p.Port)
			if old, taken := v.external[at]; !taken || serviceLess(old.svc, s) {
				v.external[at] = servicePort{s, p}
			}
		}
		if old, taken := v.nodePorts[p.NodePort]; p.NodePort != 0 && (!taken || serviceLess(old.svc, s)) {
			v.nodePorts[p.NodePort] = servicePort{s, p}
		}
	}
}

func (v *View) addWorkload(w *mesh.Workload, node string) {
	v.workloads[w.UID] = w
	if w.Node == node {
		v.local = append(v.local, w)
	}
	if w.HostNetwork {
		return
	}
	for _, addr := range w.Addrs {
		addr = addr.Unmap()
		if old := v.byAddr[addr]; old == nil || Supersedes(w, old) {
			v.byAddr[addr] = w
		}
	}
}

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

// relinked reports whether a workload of an endpoint of s was added, changed or removed.
func relinked(s *mesh.Service, changed map[string]bool) bool {
	if len(changed) == 0 {
		return false
	}
	for i := range s.Ports {
		for j := range s.Ports[i].Endpoints {
			if uid := s.Ports[i].Endpoints[j].WorkloadUID; uid != "" && changed[WorkloadName(uid)] {
				return true
			}
		}
	}
	return false
}

// link returns a copy of s whose endpoints point into workloads.
func link(s *mesh.Service, workloads map[string]*mesh.Workload) *mesh.Service {
	out := *s
	out.Ports = slices.Clone(s.Ports)
	for i := range out.Ports {
		endpoints := slices.Clone(out.Ports[i].Endpoints)
		for j := range endpoints {
			endpoints[j].Workload = workloads[endpoints[j].WorkloadUID]
		}
		out.Ports[i].Endpoints = endpoints
	}
	return &out
}
