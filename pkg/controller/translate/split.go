package translate

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/underlane/underlane/pkg/controller/custom"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/route"
)

// splitting translates TrafficSplits.
type splitting struct{ *translation }

// rootOf returns the Service that s splits, as far as its name says.
func rootOf(s *custom.TrafficSplit) name {
	short, _, _ := strings.Cut(s.Spec.Service, ".")
	return name{s.Namespace, short}
}

// computeSplits makes routes from the SMI's TrafficSplits of a Service, for ports without
// another route. Of several the oldest counts.
func (s *service) computeSplits() bool {
	t := &splitting{s.tr.translation()}
	taken := s.producerParents()
	all := slices.SortedFunc(maps.Values(s.splits.of), func(a, b *custom.TrafficSplit) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, split := range all {
		if err := t.addTrafficSplit(split, taken); err != nil {
			t.problem(custom.TrafficSplits.Kind, split.Namespace, split.Name, "%v: it has no effect", err)
		}
	}
	s.tr.out.say(&s.splits.Node, &t.Result)
	var ports []uint16
	for _, r := range t.Routes {
		ports = append(ports, r.Parent.Port)
	}
	changed := !slices.Equal(ports, s.splits.ports)
	s.splits.ports = ports
	return changed
}

// addTrafficSplit makes the routes of one TrafficSplit. taken has the ports that already have a
// route. The error says why it is about no Service. If something else is not understood, its
// routes refuse the requests that it may be about, as those of the Gateway API do.
func (t *splitting) addTrafficSplit(s *custom.TrafficSplit, taken map[mesh.ServicePortRef]bool) error {
	root, err := t.splitService(s, s.Spec.Service)
	if err != nil {
		return fmt.Errorf("service: %w", err)
	}
	if len(root.VIPs) == 0 {
		return fmt.Errorf("service: %s has no cluster IP that requests could be sent to", root.Name)
	}
	matches, all, wrong := t.splitMatches(s)
	if fields := custom.UnknownFields(s); fields != nil {
		wrong = fmt.Errorf("the field %s is not known", fields[0])
	} else if !all && len(matches) == 0 {
		return errors.New("matches: the HTTPRouteGroups match nothing")
	}
	weights, err := splitWeights(s)
	if err != nil {
		wrong = err
	}
	var passed []uint16
	for i := range root.Ports {
		at := mesh.ServicePortRef{Namespace: s.Namespace, Name: root.Name, Port: root.Ports[i].Port}
		if taken[at] || taken[mesh.ServicePortRef{Namespace: at.Namespace, Name: at.Name}] {
			passed = append(passed, at.Port)
			continue
		}
		if !t.splitPort(s, at.Port) {
			t.problem(custom.TrafficSplits.Kind, s.Namespace, s.Name, "no backend has the port %d of Service %s: it is not split", at.Port, root.Name)
			continue
		}
		r := t.splitRoute(s, root, at, weights, matches)
		if err := route.Check(r); err != nil && wrong == nil {
			wrong = errors.New(strings.TrimPrefix(err.Error(), "rule 0: "))
		}
		if wrong != nil {
			r.Rules[0] = route.Closed(r.Rules[0], wrong.Error(), checkSplit)
		}
		t.Routes = append(t.Routes, r)
		taken[at] = true
	}
	if wrong != nil {
		t.problem(custom.TrafficSplits.Kind, s.Namespace, s.Name, "%v: the requests that it may be about are refused", wrong)
	}
	if len(passed) > 0 {
		t.problem(custom.TrafficSplits.Kind, s.Namespace, s.Name, "Service %s has another route for the ports %v: it goes before", root.Name, passed)
	}
	return nil
}

// checkSplit returns what is wrong with a rule.
func checkSplit(r mesh.RouteRule) error {
	return route.Check(&mesh.Route{Rules: []mesh.RouteRule{r}})
}

// splitRoute returns the route for one port. The backends use the same port.
// Requests that no match selects go to the Service itself.
func (t *splitting) splitRoute(s *custom.TrafficSplit, root *mesh.Service, at mesh.ServicePortRef, weights []uint32, matches []mesh.RouteMatch) *mesh.Route {
	policy := t.from.shape(name{root.Namespace, root.Name}).policy
	split := mesh.RouteRule{Matches: matches, Timeouts: policy.timeouts, Retry: policy.retry}
	for i := range s.Spec.Backends {
		backend := mesh.RouteBackend{Service: at}
		if i < len(weights) {
			backend.Weight = weights[i]
		}
		svc, err := t.splitService(s, s.Spec.Backends[i].Service)
		switch {
		case err != nil:
			backend.Invalid = err.Error()
		case !hasPort(svc, at.Port):
			backend.Invalid = fmt.Sprintf("Service %s/%s has no TCP port %d", svc.Namespace, svc.Name, at.Port)
		}
		if backend.Invalid != "" {
			t.problem(custom.TrafficSplits.Kind, s.Namespace, s.Name, "backends[%d]: %s", i, backend.Invalid)
			backend.Service.Name = s.Spec.Backends[i].Service
		} else {
			backend.Service.Name = svc.Name
		}
		split.Backends = append(split.Backends, backend)
	}
	out := &mesh.Route{
		Kind: custom.TrafficSplits.Kind, Namespace: s.Namespace, Name: s.Name, Created: s.CreationTimestamp.UTC(),
		Parent: at, Rules: []mesh.RouteRule{split},
	}
	if len(matches) > 0 {
		out.Rules = append(out.Rules, mesh.RouteRule{
			Backends: []mesh.RouteBackend{{Service: at, Weight: 1}}, Timeouts: policy.timeouts, Retry: policy.retry,
		})
	}
	return out
}

// splitPort reports whether a backend has the port.
func (t *splitting) splitPort(s *custom.TrafficSplit, port uint16) bool {
	return slices.ContainsFunc(s.Spec.Backends, func(b custom.TrafficSplitBackend) bool {
		svc, err := t.splitService(s, b.Service)
		return err == nil && hasPort(svc, port)
	})
}

// splitService finds a Service by its name, or by its DNS name in the cluster.
func (t *splitting) splitService(s *custom.TrafficSplit, name string) (*mesh.Service, error) {
	short, domain, qualified := strings.Cut(name, ".")
	if namespace, _, _ := strings.Cut(domain, "."); qualified && namespace != s.Namespace {
		return nil, fmt.Errorf("%s is not of the namespace %s", name, s.Namespace)
	}
	svc, known := t.service(s.Namespace, short)
	switch {
	case !known:
		return nil, fmt.Errorf("there is no Service %s/%s", s.Namespace, short)
	case svc == nil:
		return nil, fmt.Errorf("the Service %s/%s is of type ExternalName", s.Namespace, short)
	}
	return svc, nil
}

// splitWeights returns the weights of the backends. v1alpha1 has quantities such as
// 500m; in that case all weights are counted in thousandths.
func splitWeights(s *custom.TrafficSplit) ([]uint32, error) {
	const most = math.MaxUint32 / 1000
	thousandths := false
	for i := range s.Spec.Backends {
		w := &s.Spec.Backends[i].Weight
		if w.Sign() < 0 || w.CmpInt64(most) > 0 {
			return nil, fmt.Errorf("backends[%d]: a weight of %s", i, w)
		}
		thousandths = thousandths || w.MilliValue()%1000 != 0
	}
	out := make([]uint32, len(s.Spec.Backends))
	for i := range out {
		w := &s.Spec.Backends[i].Weight
		if out[i] = uint32(w.Value()); thousandths {
			out[i] = uint32(w.MilliValue())
		}
	}
	return out, nil
}

// splitMatches returns the matches of the HTTPRouteGroups that s names; all: it names none, and
// splits all requests. A group that does not exist matches nothing. What is not understood may
// match every request.
func (t *splitting) splitMatches(s *custom.TrafficSplit) (out []mesh.RouteMatch, all bool, wrong error) {
	for i, ref := range s.Spec.Matches {
		if ref.Kind != custom.HTTPRouteGroups.Kind {
			wrong = fmt.Errorf("matches[%d]: a %s is not known", i, ref.Kind)
			out = append(out, mesh.RouteMatch{Path: mesh.PathMatch{Kind: mesh.PathUnknown}})
			continue
		}
		group := t.routeGroup(s.Namespace, ref.Name)
		if group == nil {
			t.problem(custom.TrafficSplits.Kind, s.Namespace, s.Name, "matches[%d]: there is no HTTPRouteGroup %s/%s: it matches nothing", i, s.Namespace, ref.Name)
			continue
		}
		if unknown := custom.UnknownFields(group); unknown != nil {
			wrong = fmt.Errorf("matches[%d]: HTTPRouteGroup %s/%s: the field %s is not known", i, s.Namespace, ref.Name, unknown[0])
			out = append(out, mesh.RouteMatch{Path: mesh.PathMatch{Kind: mesh.PathUnknown}})
			continue
		}
		for _, m := range slices.Concat(group.Matches, group.Spec.Matches) {
			out = append(out, smiMatches(&m)...)
		}
	}
	return out, len(s.Spec.Matches) == 0, wrong
}

// smiMatches returns one match for each method. SMI's expressions match the whole
// path or value.
func smiMatches(m *custom.HTTPMatch) []mesh.RouteMatch {
	var base mesh.RouteMatch
	if m.PathRegex != "" {
		base.Path = mesh.PathMatch{Kind: mesh.PathRegex, Value: m.PathRegex}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		base.Headers = append(base.Headers, mesh.ValueMatch{Name: name, Value: m.Headers[name], Regex: true})
	}
	if len(m.Methods) == 0 || slices.Contains(m.Methods, "*") {
		return []mesh.RouteMatch{base}
	}
	var out []mesh.RouteMatch
	for _, method := range m.Methods {
		base.Method = method
		out = append(out, base)
	}
	return out
}
