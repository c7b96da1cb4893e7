package endpoints

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/mesh"
)

// balancers holds one balancer for each service port and address family. It outlives
// connections and snapshots, so that the load of endpoints stays known.
type balancers struct {
	log    *slog.Logger
	mu     sync.Mutex
	byPort map[portKey]*portBalancer
	round  uint64
}

type portKey struct {
	namespace, name string
	port            uint16
	v4              bool
}

type portBalancer struct {
	*balance.Balancer
	endpoints *mesh.ServicePort // what it was last updated with: compared by identity
	zone      string            // of this node, at that update
	version   uint64            // of the view that had endpoints
	used      uint64            // the round in which it was last used
}

// get returns the balancer of a service port for clients like local, updated to port as the
// view of that version has it. Sessions can hold views of different versions at the same
// time: an older one must not bring back endpoints that are gone.
func (b *balancers) get(svc *mesh.Service, port *mesh.ServicePort, local *mesh.Workload, v4 bool, version uint64) *balance.Balancer {
	key := portKey{svc.Namespace, svc.Name, port.Port, v4}
	b.mu.Lock()
	defer b.mu.Unlock()
	pb := b.byPort[key]
	if pb == nil {
		pb = &portBalancer{Balancer: balance.New()}
		b.byPort[key] = pb
	}
	pb.used = b.round
	if (pb.endpoints != port || pb.zone != local.Zone) && version >= pb.version {
		pb.endpoints, pb.zone, pb.version = port, local.Zone, version
		near, far := eligible(svc, port, local)
		pb.Update(balance.Now(), near, far, v4)
		if err := pb.SetPolicy(balance.PolicyOf(svc.FailureAccrual)); err != nil {
			b.log.Warn("failure accrual stays as it was", "service", svc.Namespace+"/"+svc.Name, "cause", err)
		}
	}
	return pb.Balancer
}

// eligible returns the endpoints that clients like local may be sent to: near ones, and far
// ones for the case that no near one is available.
func eligible(svc *mesh.Service, port *mesh.ServicePort, local *mesh.Workload) (near, far []mesh.Endpoint) {
	if svc.NodeLocal {
		return split(port.Endpoints, func(e *mesh.Endpoint) bool { return e.Workload != nil && e.Workload.Node == local.Node }), nil
	}
	has := hint(port.Endpoints, local)
	if has == nil {
		return port.Endpoints, nil
	}
	return split(port.Endpoints, has), split(port.Endpoints, func(e *mesh.Endpoint) bool { return !has(e) })
}

func split(all []mesh.Endpoint, has func(*mesh.Endpoint) bool) (some []mesh.Endpoint) {
	for i := range all {
		if has(&all[i]) {
			some = append(some, all[i])
		}
	}
	return some
}

// hint returns which endpoints are for clients like local. It follows the hints of
// EndpointSlices as kube-proxy does: hints for nodes come before hints for zones, and
// hints count only if each ready endpoint has one and some match local. nil: all endpoints
// are for local.
func hint(all []mesh.Endpoint, local *mesh.Workload) func(*mesh.Endpoint) bool {
	forNode := func(e *mesh.Endpoint) bool { return slices.Contains(e.ForNodes, local.Node) }
	forZone := func(e *mesh.Endpoint) bool { return slices.Contains(e.ForZones, local.Zone) }
	nodes, zones := true, local.Zone != ""
	someNode, someZone := false, false
	for i := range all {
		e := &all[i]
		if !e.Ready {
			continue
		}
		nodes, zones = nodes && len(e.ForNodes) > 0, zones && len(e.ForZones) > 0
		someNode, someZone = someNode || forNode(e), someZone || forZone(e)
	}
	switch {
	case nodes && someNode:
		return forNode
	case zones && someZone:
		return forZone
	}
	return nil
}

// forget drops the balancers that were not used in the last rounds.
func (b *balancers) forget() {
	const rounds = 60
	b.mu.Lock()
	defer b.mu.Unlock()
	b.round++
	for key, pb := range b.byPort {
		if b.round-pb.used > rounds {
			delete(b.byPort, key)
		}
	}
}

// all returns all balancers.
func (b *balancers) all() []*balance.Balancer {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]*balance.Balancer, 0, len(b.byPort))
	for _, pb := range b.byPort {
		all = append(all, pb.Balancer)
	}
	return all
}

// eject ejects the endpoint at addr, and returns the balancers that have ejected it now.
func (b *balancers) eject(addr netip.AddrPort) (out []*balance.Balancer) {
	now := balance.Now()
	return slices.DeleteFunc(b.all(), func(b *balance.Balancer) bool { return b.Eject(now, addr) != balance.EjectedUnreachable })
}

// onNode returns the addresses of a node's endpoints that are not ejected.
func (b *balancers) onNode(node string) map[netip.AddrPort]bool {
	addrs := map[netip.AddrPort]bool{}
	for _, one := range b.all() {
		for _, e := range one.Ready() {
			if e.Workload != nil && e.Workload.Node == node && e.Admitted() {
				addrs[e.Addr] = true
			}
		}
	}
	return addrs
}
