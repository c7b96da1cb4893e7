package translate

import (
	"maps"
	"net/netip"

	"github.com/underlane/underlane/pkg/controller/depend"
)

// Units returns how many units there are: they come and go with the objects.
func (tr *Translator) Units() int {
	x := &tr.index
	return len(x.namespaces) + len(x.zones) + len(x.workloads) + len(x.members) + len(x.addresses) + len(x.policies) +
		len(x.services) + len(x.within) + len(x.vips) + len(x.claims) + len(x.inputs) + len(tr.routes) + len(tr.egress) + len(tr.traffic)
}

// sweep removes the units that have no object and that nobody looks for. It visits all: the
// caller calls it as rarely as there were changes.
func (tr *Translator) sweep() {
	x := &tr.index
	maps.DeleteFunc(tr.routes, func(_ objectKey, u *routeUnit) bool { return u.object == nil })
	maps.DeleteFunc(tr.egress, func(_ objectKey, u *egressUnit) bool { return u.object == nil })
	maps.DeleteFunc(tr.traffic, func(_ objectKey, u *trafficPolicy) bool { return u.object == nil })
	maps.DeleteFunc(x.services, func(n name, s *service) bool {
		own := []*depend.Node{&s.shape.Node, &s.budget.Node, &s.full.Node, &s.splits.Node, &s.routes.Node}
		dead := s.object == nil && len(s.slices)+len(s.splits.of)+len(s.budget.of)+len(s.producers) == 0 &&
			!s.shape.Used(own...) && !s.budget.Used(own...) && !s.splits.Used(own...) && !s.producing.Used(own...)
		if dead {
			delete(x.servicesIn(n.namespace).all, s)
			for _, n := range own {
				x.graph.Forget(n)
			}
		}
		return dead
	})
	maps.DeleteFunc(x.workloads, func(_ name, w *workload) bool {
		if w.object != nil || w.final.Used() {
			return false
		}
		x.graph.Forget(&w.final.Node)
		x.graph.Forget(&w.base.Node)
		return true
	})
	maps.DeleteFunc(x.claims, func(_ netip.Addr, c *claimed) bool { return len(c.by) == 0 && !c.Used() })
	maps.DeleteFunc(x.vips, func(_ netip.Addr, v *vip) bool { return len(v.of) == 0 && !v.Used() })
	maps.DeleteFunc(x.addresses, func(_ netip.Addr, a *address) bool { return len(a.pods) == 0 && !a.Used() })
	maps.DeleteFunc(x.inputs, func(_ objectKey, in *inputObject) bool { return in.object == nil && !in.Used() })
	maps.DeleteFunc(x.policies, func(namespace string, p *policies) bool {
		dead := len(p.own)+len(p.routes)+len(x.pods(namespace).all) == 0 && !p.Used(&p.limits.Node) && !p.limits.Used() && !p.istio.Used() && namespace != tr.rootNamespace()
		if dead {
			x.graph.Forget(&p.Node)
			x.graph.Forget(&p.limits.Node)
		}
		return dead
	})
	maps.DeleteFunc(x.members, func(_ string, m *members) bool {
		for _, values := range m.labels {
			for _, l := range values {
				if l.changed.Used() {
					return false
				}
			}
		}
		return len(m.all) == 0 && !m.counted.Used()
	})
	maps.DeleteFunc(x.within, func(_ string, in *within) bool { return len(in.all) == 0 && !in.changed.Used() })
	maps.DeleteFunc(x.zones, func(_ string, z *zone) bool { return z.value == "" && !z.Used() })
	maps.DeleteFunc(x.namespaces, func(namespace string, u *namespaceUnit) bool {
		dead := u.object == nil && len(u.policies) == 0 && u.foreign == 0 && !u.Used()
		if dead {
			x.graph.Forget(&u.Node)
		}
		return dead
	})
}
