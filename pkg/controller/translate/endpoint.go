package translate

import (
	"net/netip"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/underlane/underlane/pkg/mesh"
)

// candidate may become an endpoint of a service's port.
type candidate struct {
	addr     netip.AddrPort
	workload *mesh.Workload // nil when no pod is known
	node     string
	ready    bool
	draining bool     // terminating, and serving still
	zones    []string // hints
	nodes    []string
}

// usable picks as kube-proxy does (pkg/proxy/topology.go): the ready ones, and
// only where there are none those that terminate and still serve. Where clients
// stay on their node that is decided for each node. The result is sorted,
// without doubles.
func usable(all []candidate, nodeLocal bool) []mesh.Endpoint {
	group := func(c *candidate) string {
		if nodeLocal {
			return c.node
		}
		return ""
	}
	hasReady := map[string]bool{}
	for i := range all {
		if all[i].ready {
			hasReady[group(&all[i])] = true
		}
	}
	var out []mesh.Endpoint
	for i := range all {
		if c := &all[i]; c.ready || c.draining && !hasReady[group(c)] {
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

// dropPartialHints: hints that not all endpoints have say nothing (a slice is
// being written, or a controller that knows none has written another), as for
// kube-proxy.
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
