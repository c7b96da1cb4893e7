package state

import (
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/mesh"
)

// egress has the EgressNetworks of a View, and their routes. The zero value has none.
type egress struct {
	local  map[string][]*mesh.EgressNetwork // by namespace
	global []*mesh.EgressNetwork
	routes map[serviceName][]*mesh.Route // by network
}

func (e *egress) add(n *mesh.EgressNetwork) {
	if e.local == nil {
		e.local = map[string][]*mesh.EgressNetwork{}
	}
	e.local[n.Namespace] = append(e.local[n.Namespace], n)
	if n.Global {
		e.global = append(e.global, n)
	}
}

func (e *egress) addRoute(r *mesh.Route) {
	if e.routes == nil {
		e.routes = map[serviceName][]*mesh.Route{}
	}
	at := serviceName{r.Parent.Namespace, r.Parent.Name}
	e.routes[at] = append(e.routes[at], r)
}

// finish sorts. It reuses the lists of routes of last that are the same.
func (e *egress) finish(last *egress) {
	for at, routes := range e.routes {
		slices.SortFunc(routes, routeOrder)
		if old := last.routes[at]; slices.Equal(old, routes) {
			e.routes[at] = old
		}
	}
}

// HasEgress reports whether there are EgressNetworks.
func (v *View) HasEgress() bool { return len(v.egress.local) > 0 }

// Egress returns the EgressNetwork that addr, an address outside the mesh, belongs to for
// clients of a namespace, or nil. As in Linkerd, the networks of the client's namespace
// count if there are some, whatever their addresses, and otherwise the global ones. Of
// several with the address, the one with the longest prefix counts, then the oldest.
func (v *View) Egress(namespace string, addr netip.Addr) *mesh.EgressNetwork {
	all := v.egress.local[namespace]
	if len(all) == 0 {
		all = v.egress.global
	}
	var best *mesh.EgressNetwork
	bits := -1
	for _, n := range all {
		if b := n.Bits(addr); b > bits || b >= 0 && b == bits && n.Before(best) {
			best, bits = n, b
		}
	}
	return best
}

// EgressRoutes returns the routes whose parent is n, the oldest first. The slice keeps its
// identity while they stay the same.
func (v *View) EgressRoutes(n *mesh.EgressNetwork) []*mesh.Route {
	return v.egress.routes[serviceName{n.Namespace, n.Name}]
}
