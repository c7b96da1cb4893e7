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
		near, far := mesh.Eligible(svc, port, local)
		pb.Update(balance.Now(), near, far, v4)
		if err := pb.SetPolicy(balance.PolicyOf(svc.FailureAccrual)); err != nil {
			b.log.Warn("failure accrual stays as it was", "service", svc.Namespace+"/"+svc.Name, "cause", err)
		}
	}
	return pb.Balancer
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
