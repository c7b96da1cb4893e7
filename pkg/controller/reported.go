package controller

import (
	"net/netip"

	"github.com/underlane/underlane/pkg/control/server"
	"github.com/underlane/underlane/pkg/mesh"
)

// addAddresses gives the addresses that agents have reported to enrolled workloads that
// have none. An agent has a pod's address from its sandbox when the pod starts. The
// kubelet writes it to the pod's status a second or two later, and until then no other
// node would know whose address it is. A node can thus say which address a pod of its own
// has, as its kubelet can. It cannot take an address that another pod or a Service has.
// addAddresses must be called after mark.
func (e *enrolments) addAddresses(workloads []*mesh.Workload, services []*mesh.Service) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var taken map[netip.Addr]bool // made when it is needed
	for _, w := range workloads {
		if len(w.Addrs) > 0 || !w.Meshed {
			continue
		}
		for _, addr := range e.pods[claim{w.UID, w.Node}].addrs {
			if !addr.IsValid() {
				continue
			}
			if taken == nil {
				taken = addressesOf(workloads, services)
			}
			if !taken[addr] {
				taken[addr] = true
				w.Addrs = append(w.Addrs, addr)
			}
		}
	}
}

func addressesOf(workloads []*mesh.Workload, services []*mesh.Service) map[netip.Addr]bool {
	all := make(map[netip.Addr]bool, len(workloads)+len(services))
	add := func(addrs []netip.Addr) {
		for _, a := range addrs {
			all[a.Unmap()] = true
		}
	}
	for _, w := range workloads {
		add(w.Addrs)
	}
	for _, s := range services {
		add(s.VIPs)
		for i := range s.Ports {
			add(s.Ports[i].External)
		}
	}
	return all
}

// A pod that loses its label leaves the mesh, and its agent still carries the connections
// that it opened before. These may need new connections to servers, with the pod's
// identity. So other agents must know that the identity is still used at the pod's address.

// AgentConnected implements server.Observer. The agent's first report has all pods that are
// leaving.
func (e *enrolments) AgentConnected(a server.AgentInfo) {
	e.mu.Lock()
	for is := range e.leaving {
		if is.node == a.Node {
			delete(e.leaving, is)
		}
	}
	e.mu.Unlock()
	e.Observer.AgentConnected(a)
}

// leave notes whether a node's agent carries connections of a pod that is leaving. The
// caller holds mu.
func (e *enrolments) leave(is claim, leaving bool) {
	if leaving {
		e.leaving[is] = true
	} else {
		delete(e.leaving, is)
	}
}

// markLeaving sets Leaving of workloads. An enrolled pod that has just lost its label
// leaves until its agent says that it carries nothing of it. The caller holds mu.
func (e *enrolments) markLeaving(workloads []*mesh.Workload) {
	there := make(map[claim]bool, len(e.leaving))
	for _, w := range workloads {
		is := claim{w.UID, w.Node}
		if w.Meshed {
			continue
		}
		if _, enrolled := e.pods[is]; enrolled {
			e.leaving[is] = true
		}
		if e.leaving[is] {
			w.Leaving, there[is] = true, true
		}
	}
	for is := range e.leaving {
		if !there[is] {
			delete(e.leaving, is)
		}
	}
}
