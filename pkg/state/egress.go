package state

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/pmap"
)

// egress has the EgressNetworks of a View, and their routes. The zero value has none.
type egress struct {
	local  map[string][]*mesh.EgressNetwork // by namespace
	global []*mesh.EgressNetwork
	routes pmap.Map[serviceName, []*mesh.Route] // by network
}

// change replaces a network; nil stands for none. It copies the lists: networks are few, and
// change rarely.
func (e *egress) change(old, now *mesh.EgressNetwork) {
	e.local = maps.Clone(e.local)
	if e.local == nil {
		e.local = map[string][]*mesh.EgressNetwork{}
	}
	without := func(list []*mesh.EgressNetwork) []*mesh.EgressNetwork {
		return slices.DeleteFunc(slices.Clone(list), func(n *mesh.EgressNetwork) bool { return n == old })
	}
	if old != nil {
		if e.local[old.Namespace] = without(e.local[old.Namespace]); len(e.local[old.Namespace]) == 0 {
			delete(e.local, old.Namespace)
		}
		e.global = without(e.global)
	}
	if now != nil {
		e.local[now.Namespace] = append(slices.Clip(e.local[now.Namespace]), now)
		if now.Global {
			e.global = append(slices.Clip(e.global), now)
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
	return v.egress.routes.Get(serviceName{n.Namespace, n.Name})
}
