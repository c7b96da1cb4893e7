package translate

import (
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/underlane/underlane/pkg/mesh"
)

// candidate is a possible endpoint of a service's port.
type candidate struct {
	addr     netip.AddrPort
	workload *mesh.Workload // nil when the pod is not known
	node     string
	ready    bool
	draining bool     // terminating but still serving
	zones    []string // hints
	nodes    []string
}

// usable selects endpoints like kube-proxy (pkg/proxy/topology.go). It selects the
// ready ones. If there are none, it selects those that terminate but still serve.
// With nodeLocal it decides this for each node. The result is sorted and has no
// duplicates.
func usable(all []candidate, nodeLocal bool) []mesh.Endpoint {
	group := func(c *candidate) string {
		if nodeLocal {
			return c.node
		}
		return ""
	}
	draining := slices.ContainsFunc(all, func(c candidate) bool { return c.draining })
	hasReady := map[string]bool{}
	for i := range all {
		if draining && all[i].ready {
			hasReady[group(&all[i])] = true
		}
	}
	used := func(c *candidate) bool { return c.ready || c.draining && !hasReady[group(c)] }
	n := 0
	for i := range all {
		if used(&all[i]) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	out := make([]mesh.Endpoint, 0, n) // no more: there are many, and they stay
	for i := range all {
		if c := &all[i]; used(c) {
			e := mesh.Endpoint{Addr: c.addr, Workload: c.workload, Ready: true, ForZones: c.zones, ForNodes: c.nodes}
			if c.workload != nil {
				e.WorkloadUID = c.workload.UID
			}
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b mesh.Endpoint) int { return a.Addr.Compare(b.Addr) })
	out = slices.CompactFunc(out, func(a, b mesh.Endpoint) bool { return a.Addr == b.Addr })
	dropPartialHints(out)
	return out
}

// dropPartialHints removes the hints unless all endpoints have hints, like
// kube-proxy. Partial hints mean that a slice is being updated, or that a
// controller without support for hints has written one.
func dropPartialHints(all []mesh.Endpoint) {
	zones, nodes := 0, 0
	for i := range all {
		zones += min(len(all[i].ForZones), 1)
		nodes += min(len(all[i].ForNodes), 1)
	}
	for i := range all {
		if 0 < zones && zones < len(all) {
			all[i].ForZones = nil
		}
		if 0 < nodes && nodes < len(all) {
			all[i].ForNodes = nil
		}
	}
}

func hints(e *discoveryv1.Endpoint) (zones, nodes []string) {
	if e.Hints == nil {
		return nil, nil
	}
	for _, z := range e.Hints.ForZones {
		zones = append(zones, z.Name)
	}
	for _, n := range e.Hints.ForNodes {
		nodes = append(nodes, n.Name)
	}
	return zones, nodes
}
