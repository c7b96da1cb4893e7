package server

import (
	"net/netip"
	"reflect"
	"slices"

	"github.com/underlane/underlane/pkg/control/codec"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// removeService removes a Service that is gone. addService replaces one that is not.
func (e *edit) removeService(ch mesh.Changed[mesh.Service]) {
	svc := ch.Before
	if svc == nil || ch.After != nil {
		return
	}
	e.spans.service(svc, -1)
	name := state.ServiceName(svc.Namespace, svc.Name)
	e.drop(name)
	e.list(svc, nil, name)
	e.behind.Delete(name)
}

// addService adds or replaces a Service. Before and After of one change have the same name.
func (e *edit) addService(ch mesh.Changed[mesh.Service]) {
	svc := ch.After
	if svc == nil {
		return
	}
	e.spans.service(svc, 1) // first: a range that stays is not moved
	e.spans.service(ch.Before, -1)
	name := state.ServiceName(svc.Namespace, svc.Name)
	same := ch.Before != nil && sameContent(ch.Before, svc) && e.byName.Get(name) != nil
	changed := false
	if !same {
		_, changed = e.store(newResource(codec.EncodeService(svc)))
	}
	switch {
	case !changed:
	case losesNothing(ch.Before, svc):
		e.gained = append(e.gained, name)
	default:
		e.name(name)
	}
	e.list(ch.Before, svc, name)
	e.relink(name, svc)
	if ch.Before == nil {
		e.arrived(name)
	}
}

// relink notes which workloads are behind a Service.
func (e *edit) relink(name string, svc *mesh.Service) {
	names := workloadsBehind(svc)
	for i, name := range names {
		if r := e.byName.Get(name); r != nil {
			names[i] = r.Name // there once
		}
	}
	switch now := e.behind.Get(name); {
	case slices.Equal(now, names):
	case len(names) > 0:
		e.behind.Set(name, names)
	default:
		e.behind.Delete(name)
	}
	old := e.last.behind.Get(name)
	if slices.Equal(old, names) {
		return
	}
	r := relinked{service: name}
	for _, was := range old {
		if _, is := slices.BinarySearch(names, was); !is {
			r.gone = append(r.gone, was)
		}
	}
	e.relinked = append(e.relinked, r)
}

// losesNothing reports whether svc has every endpoint that it had, and the same ports. Endpoints
// are ascending by their addresses, where the translation has made them.
func losesNothing(old, svc *mesh.Service) bool {
	if old == nil || len(old.Ports) != len(svc.Ports) {
		return false
	}
	for i := range old.Ports {
		p, now := &old.Ports[i], svc.Ports[i].Endpoints
		if p.Port != svc.Ports[i].Port || p.Name != svc.Ports[i].Name {
			return false
		}
		for j := range p.Endpoints {
			e := &p.Endpoints[j]
			for len(now) > 0 && now[0].Addr != e.Addr {
				now = now[1:]
			}
			if len(now) == 0 || now[0].WorkloadUID != e.WorkloadUID || now[0].Ready != e.Ready {
				return false
			}
		}
	}
	return true
}

// sameContent reports whether agents get the same of both. Often only the pods behind a Service
// are others, about which its resource says nothing but their UIDs.
func sameContent(a, b *mesh.Service) bool {
	return a.Name == b.Name && a.Namespace == b.Namespace && slices.Equal(a.VIPs, b.VIPs) &&
		a.SessionAffinity == b.SessionAffinity && a.NodeLocal == b.NodeLocal &&
		reflect.DeepEqual(a.FailureAccrual, b.FailureAccrual) && reflect.DeepEqual(a.RetryBudget, b.RetryBudget) &&
		slices.EqualFunc(a.Ports, b.Ports, samePort)
}

func samePort(a, b mesh.ServicePort) bool {
	return a.Name == b.Name && a.Port == b.Port && a.AppProtocol == b.AppProtocol && a.NodePort == b.NodePort &&
		slices.Equal(a.External, b.External) && slices.EqualFunc(a.Endpoints, b.Endpoints, func(c, d mesh.Endpoint) bool {
		d.Workload = c.Workload
		return c.Same(d)
	})
}

// places are where a Service is found: addresses that are its own, those of load balancers,
// and its endpoints, each ascending and once.
type places struct {
	vips, external, backing []netip.Addr
	nodePort                bool
}

// read sets p to the places of a Service, none for nil.
func (p *places) read(svc *mesh.Service) {
	p.vips, p.external, p.backing, p.nodePort = p.vips[:0], p.external[:0], p.backing[:0], false
	if svc == nil {
		return
	}
	for _, a := range svc.VIPs {
		p.vips = append(p.vips, a.Unmap())
	}
	for i := range svc.Ports {
		port := &svc.Ports[i]
		p.nodePort = p.nodePort || port.NodePort != 0
		for _, a := range port.External {
			p.external = append(p.external, a.Unmap())
		}
		for j := range port.Endpoints {
			p.backing = append(p.backing, port.Endpoints[j].Addr.Addr().Unmap())
		}
	}
	for _, list := range []*[]netip.Addr{&p.vips, &p.external, &p.backing} {
		slices.SortFunc(*list, netip.Addr.Compare)
		*list = slices.Compact(*list)
	}
}

// list changes the lists that have a Service by where it is found.
func (e *edit) list(old, svc *mesh.Service, name string) {
	before, now := &e.before, &e.now
	before.read(old)
	now.read(svc)
	change := func(on bool) func(list []string) []string {
		return func(list []string) []string {
			at, found := slices.BinarySearch(list, name)
			switch {
			case on && !found:
				list = slices.Insert(list, at, name)
			case !on && found:
				list = slices.Delete(list, at, at+1)
			}
			return list
		}
	}
	differences(before.vips, now.vips, func(a netip.Addr, on bool) {
		e.hold(a, func(h *holders) { h.services = change(on)(h.services) })
	})
	differences(before.external, now.external, func(a netip.Addr, on bool) {
		editList(e.external, a, change(on))
		e.held = append(e.held, a)
	})
	differences(before.backing, now.backing, func(a netip.Addr, on bool) {
		editList(e.backing, a, change(on))
		e.backed = append(e.backed, a)
	})
	if before.nodePort != now.nodePort {
		e.s.nodePorts = change(now.nodePort)(slices.Clone(e.s.nodePorts))
	}
}

// differences calls do for each element that one of two ascending lists has and the other has
// not. on: it is in now.
func differences(before, now []netip.Addr, do func(a netip.Addr, on bool)) {
	for len(before)+len(now) > 0 {
		switch {
		case len(now) == 0 || len(before) > 0 && before[0].Less(now[0]):
			do(before[0], false)
			before = before[1:]
		case len(before) == 0 || now[0].Less(before[0]):
			do(now[0], true)
			now = now[1:]
		default:
			before, now = before[1:], now[1:]
		}
	}
}
