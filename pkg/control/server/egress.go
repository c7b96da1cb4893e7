package server

import (
	"github.com/underlane/underlane/pkg/pmap"
)

// egress has the EgressNetworks of a Snapshot.
type egress struct {
	networks []egressNetwork
	routed   pmap.Map[string, []routed] // routes of a network, by the network's resource
}

type egressNetwork struct {
	*resource
	namespace string
	global    bool
}

// wantedEgress yields the networks that clients of these namespaces are subject to, their
// routes, and the services that the routes name. All agents with clients get the global
// ones: which namespaces have some of their own may change.
func (s *Snapshot) wantedEgress(clients map[string]bool, routes bool, yield func(*resource)) {
	if len(clients) == 0 {
		return
	}
	for i := range s.egress.networks {
		n := &s.egress.networks[i]
		if !n.global && !clients[n.namespace] {
			continue
		}
		yield(n.resource)
		if !routes {
			continue
		}
		for _, r := range s.egress.routed.Get(n.Name) {
			if r.client != "" && !clients[r.client] {
				continue
			}
			yield(r.route)
			for _, to := range r.leadTo {
				s.withBehind(to, yield)
			}
		}
	}
}
