package translate

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/underlane/underlane/pkg/controller/depend"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// Changes are what a batch has changed of a Result. A value that has not changed is the same
// pointer as before.
type Changes struct {
	Workloads []mesh.Changed[mesh.Workload]
	Services  []mesh.Changed[mesh.Service]
	Routes    []mesh.Changed[mesh.Route]
	Egress    []mesh.Changed[mesh.EgressNetwork]
	Authz     map[string]*authz.Spec // by UID; nil for those that are gone
	Nodes     bool                   // Result.Nodes is another one
	Statuses  bool                   // Result.RouteStatuses is another one
	Problems  bool                   // Result.Problems is another one
}

// Empty reports whether nothing has changed that agents get.
func (c *Changes) Empty() bool {
	return len(c.Workloads)+len(c.Services)+len(c.Routes)+len(c.Egress)+len(c.Authz) == 0 && !c.Nodes
}

// table has the values of a kind, and what they were before the batch.
type table[K comparable, V any] struct {
	now    map[K]*V
	before map[K]*V
}

func newTable[K comparable, V any]() table[K, V] {
	return table[K, V]{now: map[K]*V{}, before: map[K]*V{}}
}

// set sets a value; nil removes it.
func (t *table[K, V]) set(k K, v *V) {
	old := t.now[k]
	if old == v {
		return
	}
	if _, noted := t.before[k]; !noted {
		t.before[k] = old
	}
	if v == nil {
		delete(t.now, k)
	} else {
		t.now[k] = v
	}
}

// take returns what has changed since the last call.
func (t *table[K, V]) take() (out []mesh.Changed[V]) {
	for k, old := range t.before {
		if now := t.now[k]; now != old {
			out = append(out, mesh.Changed[V]{Before: old, After: now})
		}
	}
	if len(t.before) > 1024 {
		t.before = map[K]*V{}
	} else {
		clear(t.before)
	}
	return out
}

// said is what a unit has said beside its value.
type said struct {
	routes   []*mesh.Route
	statuses []RouteStatus
	problems []Problem
}

// output has what all units have said.
type output struct {
	workloads table[name, mesh.Workload]
	services  table[name, mesh.Service]
	egress    table[name, mesh.EgressNetwork]
	authz     table[string, authz.Spec]
	said      table[*depend.Node, said]
	nodes     map[string][]netip.Addr // by node
	moved     bool                    // nodes has changed
}

func newOutput() output {
	return output{
		workloads: newTable[name, mesh.Workload](), services: newTable[name, mesh.Service](), egress: newTable[name, mesh.EgressNetwork](),
		authz: newTable[string, authz.Spec](), said: newTable[*depend.Node, said](), nodes: map[string][]netip.Addr{},
	}
}

// say sets what a unit says. Routes that are the same as before keep their pointers.
func (o *output) say(n *depend.Node, r *Result) {
	old := o.said.now[n]
	if len(r.Routes)+len(r.RouteStatuses)+len(r.Problems) == 0 {
		o.said.set(n, nil)
		return
	}
	now := &said{r.Routes, r.RouteStatuses, r.Problems}
	if old != nil {
		if reflect.DeepEqual(old, now) {
			return
		}
		for i, route := range now.routes {
			for _, before := range old.routes {
				if routeNameOf(before) == routeNameOf(route) && reflect.DeepEqual(before, route) {
					now.routes[i] = before
				}
			}
		}
	}
	o.said.set(n, now)
}

// routeName names a route among all.
type routeName struct {
	parent                mesh.ServicePortRef
	egress                bool
	kind, namespace, name string
}

func routeNameOf(r *mesh.Route) routeName {
	return routeName{r.Parent, r.Egress, r.Kind, r.Namespace, r.Name}
}

// take returns what has changed since the last call.
func (o *output) take() Changes {
	c := Changes{Workloads: o.workloads.take(), Services: o.services.take(), Egress: o.egress.take(), Nodes: o.moved}
	o.moved = false
	if before := o.authz.before; len(before) > 0 {
		c.Authz = make(map[string]*authz.Spec, len(before))
		for uid, old := range before {
			if now := o.authz.now[uid]; now != old {
				c.Authz[uid] = now
			}
		}
		o.authz.take()
	}
	routes := newTable[routeName, mesh.Route]()
	for _, ch := range o.said.take() {
		before, after := ch.Before, ch.After
		if before == nil {
			before = &said{}
		}
		if after == nil {
			after = &said{}
		}
		c.Statuses = c.Statuses || !reflect.DeepEqual(before.statuses, after.statuses)
		c.Problems = c.Problems || !slices.Equal(before.problems, after.problems)
		for _, r := range before.routes {
			if _, has := routes.before[routeNameOf(r)]; !has || routes.before[routeNameOf(r)] == nil {
				routes.before[routeNameOf(r)] = r
			}
		}
		for _, r := range after.routes {
			routes.now[routeNameOf(r)] = r
			if _, has := routes.before[routeNameOf(r)]; !has {
				routes.before[routeNameOf(r)] = nil
			}
		}
	}
	c.Routes = routes.take()
	return c
}

// statuses and problems are those of a Result.
func (o *output) statuses() (out []RouteStatus) {
	for _, s := range o.said.now {
		out = append(out, s.statuses...)
	}
	slices.SortFunc(out, func(a, b RouteStatus) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.parentKind(), b.parentKind()))
	})
	return joined(out)
}

func (o *output) problems() (out []Problem) {
	for _, s := range o.said.now {
		out = append(out, s.problems...)
	}
	slices.SortFunc(out, func(a, b Problem) int { return cmp.Compare(a.String(), b.String()) })
	return slices.Compact(out) // an endpoint's address is checked once per port
}

// result collects everything.
func (o *output) result() Result {
	r := Result{
		Workloads: slices.Collect(maps.Values(o.workloads.now)), Services: slices.Collect(maps.Values(o.services.now)),
		Egress: slices.Collect(maps.Values(o.egress.now)),
	}
	if len(o.authz.now) > 0 {
		r.Authz = maps.Clone(o.authz.now)
	}
	for _, addrs := range o.nodes {
		r.Nodes = append(r.Nodes, addrs...)
	}
	for _, s := range o.said.now {
		r.Routes = append(r.Routes, s.routes...)
	}
	slices.SortFunc(r.Workloads, func(a, b *mesh.Workload) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(r.Services, func(a, b *mesh.Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(r.Egress, func(a, b *mesh.EgressNetwork) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(r.Nodes, netip.Addr.Compare)
	slices.SortFunc(r.Routes, compareRoutes)
	r.RouteStatuses = o.statuses()
	r.Problems = o.problems()
	return r
}
