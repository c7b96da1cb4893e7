package server

import (
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/control/codec"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/pmap"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/state"
)

// edit is the making of one Snapshot.
type edit struct {
	*Keeper
	touched
	s            *Snapshot
	byName       *pmap.Editor[string, *resource]
	byNode       *pmap.Editor[string, []*mesh.Workload]
	byAddr       *pmap.Editor[netip.Addr, *holders]
	external     *pmap.Editor[netip.Addr, []string]
	behind       *pmap.Editor[string, []string]
	routed       *pmap.Editor[string, []routed]
	backing      *pmap.Editor[netip.Addr, []string]
	egressRouted *pmap.Editor[string, []routed]
	dropped      []string        // resources that are gone unless they are put again
	kept         map[string]bool // those that were put
}

// put stores r by its name, and notes that it has changed. It returns the resource that was there
// if it has the same content.
func (e *edit) put(r *resource) *resource {
	r, changed := e.store(r)
	if changed {
		e.name(r.Name)
	}
	return r
}

// store is put where the caller notes that it has changed.
func (e *edit) store(r *resource) (stored *resource, changed bool) {
	e.encoded++
	old := e.byName.Get(r.Name)
	if old == nil && e.reuse != nil {
		old = e.reuse.byName.Get(r.Name)
	}
	if old != nil && old.version == r.version {
		r = old
	}
	before := e.last.byName.Get(r.Name)
	e.byName.Set(r.Name, r)
	if e.kept == nil {
		e.kept = map[string]bool{}
	}
	e.kept[r.Name] = true
	return r, before == nil || before.version != r.version
}

// drop removes a resource unless it is put again.
func (e *edit) drop(name string) { e.dropped = append(e.dropped, name) }

// editList changes a list in a copy.
func editList[K comparable, V any](m *pmap.Editor[K, []V], k K, change func([]V) []V) {
	old := m.Get(k)
	now := change(append(make([]V, 0, len(old)+1), old...))
	if len(now) == 0 {
		m.Delete(k)
	} else {
		m.Set(k, now)
	}
}

// hold changes who has an address.
func (e *edit) hold(a netip.Addr, change func(*holders)) {
	h := &holders{}
	if old := e.byAddr.Get(a); old != nil {
		h.pods, h.services = slices.Clone(old.pods), slices.Clone(old.services)
	}
	change(h)
	if len(h.pods)+len(h.services) == 0 {
		e.byAddr.Delete(a)
	} else {
		e.byAddr.Set(a, h)
	}
	e.held = append(e.held, a)
}

// arrived says that there is a service again that routes may have named before.
func (e *edit) arrived(service string) {
	for parent := range e.leads[service] {
		e.rerouted = append(e.rerouted, parent)
	}
	e.egress = e.egress || len(e.leads[service]) > 0
}

// lead counts the routes of a parent that name services.
func (e *edit) lead(parent string, to []string, n int) {
	for _, service := range to {
		parents := e.leads[service]
		if parents == nil {
			parents = map[string]int{}
			e.leads[service] = parents
		}
		if parents[parent] += n; parents[parent] == 0 {
			delete(parents, parent)
		}
		if len(parents) == 0 {
			delete(e.leads, service)
		}
	}
}

// leadTo returns the services that a route names, beside its parent.
func leadTo(r *mesh.Route, parent string) (out []string) {
	for service := range r.Services() {
		name := state.ServiceName(service.Namespace, service.Name)
		if (r.Egress || name != parent) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func (e *edit) routesOf(r *mesh.Route) (m *pmap.Editor[string, []routed], parent string) {
	if r.Egress {
		return e.egressRouted, state.EgressName(r.Parent.Namespace, r.Parent.Name)
	}
	return e.routed, state.ServiceName(r.Parent.Namespace, r.Parent.Name)
}

func (e *edit) removeRoute(r *mesh.Route) {
	if r == nil {
		return
	}
	m, parent := e.routesOf(r)
	name := state.RouteName(r)
	editList(m, parent, func(all []routed) []routed {
		return slices.DeleteFunc(all, func(other routed) bool { return other.route.Name == name })
	})
	e.drop(name)
	e.lead(parent, leadTo(r, parent), -1)
	e.parent(r, parent)
}

func (e *edit) addRoute(r *mesh.Route) {
	if r == nil {
		return
	}
	m, parent := e.routesOf(r)
	to := routed{route: e.put(newResource(codec.EncodeRoute(r))), leadTo: leadTo(r, parent)}
	if r.Consumer() {
		to.client = r.Namespace
	}
	e.lead(parent, to.leadTo, 1)
	editList(m, parent, func(all []routed) []routed { return append(all, to) })
	e.parent(r, parent)
}

func (e *edit) parent(r *mesh.Route, parent string) {
	if r.Egress {
		e.egress = true
	} else {
		e.rerouted = append(e.rerouted, parent)
	}
}

func (e *edit) setAuthz(c *Changes) {
	moved := false
	for uid, spec := range c.Authz {
		if spec == nil {
			e.drop(state.AuthzName(uid))
		} else {
			r := e.put(newResource(codec.EncodeAuthz(uid, spec)))
			if w := e.wares[uid]; w != nil && e.last.byName.Get(r.Name) == nil {
				e.node(w.Node)
			}
		}
		moved = e.limit(uid, spec) || moved
	}
	for _, ch := range c.Workloads {
		w := ch.After
		if w == nil {
			w = ch.Before
		}
		if w == nil {
			continue
		}
		if l, is := e.limited[w.UID]; is {
			moved = e.limit(w.UID, l.spec) || moved
		}
	}
	if moved {
		e.s.shared = sharedLimits(e.limited)
	}
}

// limit notes which limits a pod has that nodes share, and reports whether there are some, or
// were.
func (e *edit) limit(uid string, spec *authz.Spec) bool {
	_, was := e.limited[uid]
	delete(e.limited, uid)
	w := e.wares[uid]
	if w == nil || !w.Limited || !shares(spec) {
		return was
	}
	e.limited[uid] = limited{w, spec}
	return true
}

// setNodes sets the addresses of nodes. What is different concerns the agents that have subscribed
// to one that has come or gone.
func (e *edit) setNodes(all []netip.Addr) {
	nodes := make(map[netip.Addr]bool, len(all))
	for _, a := range all {
		a = a.Unmap()
		nodes[a] = true
		if !e.last.nodes[a] {
			e.held = append(e.held, a)
		}
	}
	for a := range e.last.nodes {
		if !nodes[a] {
			e.held = append(e.held, a)
		}
	}
	e.s.nodes = nodes
}

func (e *edit) setEgress(all []mesh.Changed[mesh.EgressNetwork]) {
	if len(all) == 0 {
		return
	}
	e.egress = true
	networks := slices.Clone(e.s.egress.networks)
	for _, ch := range all {
		if old := ch.Before; old != nil {
			name := state.EgressName(old.Namespace, old.Name)
			e.drop(name)
			networks = slices.DeleteFunc(networks, func(n egressNetwork) bool { return n.Name == name })
		}
	}
	for _, ch := range all {
		if n := ch.After; n != nil {
			networks = append(networks, egressNetwork{e.put(newResource(codec.EncodeEgressNetwork(n))), n.Namespace, n.Global})
		}
	}
	e.s.egress.networks = networks
}

// finish removes what was dropped and not put again, and completes the Snapshot.
func (e *edit) finish() {
	for _, name := range e.dropped {
		if !e.kept[name] {
			e.byName.Delete(name)
			e.name(name)
			if behind := e.last.behind.Get(name); len(behind) > 0 {
				e.relinked = append(e.relinked, relinked{name, behind})
			}
		}
	}
	s := e.s
	s.byName, s.byNode, s.byAddr, s.external = e.byName.Map(), e.byNode.Map(), e.byAddr.Map(), e.external.Map()
	s.behind, s.routed, s.backing, s.egress.routed = e.behind.Map(), e.routed.Map(), e.backing.Map(), e.egressRouted.Map()
	e.held = slices.DeleteFunc(e.held, func(a netip.Addr) bool {
		return s.at(a) == e.last.at(a) && s.nodes[a] == e.last.nodes[a] && slices.Equal(s.external.Get(a), e.last.external.Get(a))
	})
	e.backed = slices.DeleteFunc(e.backed, func(a netip.Addr) bool { return slices.Equal(s.backing.Get(a), e.last.backing.Get(a)) })
	e.ported = !slices.Equal(s.nodePorts, e.last.nodePorts)
	if e.touched.empty() {
		s.version--
		return
	}
	if e.last.byName.Len() == 0 {
		e.touched = touched{version: e.touched.version, all: true} // no stream has anything of what was before
	}
	if len(s.recent) >= 2*mostRecent {
		s.recent = slices.Clone(s.recent[len(s.recent)-mostRecent:])
	}
	// Snapshots share the array, of which each has a longer part than the one before: the
	// Keeper appends to the last one alone.
	s.recent = append(s.recent, e.touched)
}
