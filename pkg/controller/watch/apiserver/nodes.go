package apiserver

import (
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// nodeIndex finds the nodes of a list by name and address. It is asked for each connection to
// the controller, of whoever makes it.
type nodeIndex struct {
	mu    sync.Mutex
	list  []*corev1.Node // that names and addrs are of
	names map[string]struct{}
	addrs map[netip.Addr]struct{}
}

// look takes the list as it is now, and holds mu until the caller unlocks it.
func (x *nodeIndex) look(list []*corev1.Node) {
	x.mu.Lock()
	if x.names != nil && len(list) == len(x.list) && (len(list) == 0 || &list[0] == &x.list[0]) {
		return // a list is not changed later
	}
	x.list = list
	x.names, x.addrs = make(map[string]struct{}, len(list)), make(map[netip.Addr]struct{}, len(list))
	for _, n := range list {
		x.names[n.Name] = struct{}{}
		for _, a := range n.Status.Addresses {
			if addr, err := netip.ParseAddr(a.Address); err == nil {
				x.addrs[addr.Unmap()] = struct{}{}
			}
		}
	}
}

// HasNode reports whether the cluster has a node of this name.
func (c *Cluster) HasNode(name string) bool {
	c.byNode.look(c.nodes.All())
	defer c.byNode.mu.Unlock()
	_, has := c.byNode.names[name]
	return has
}

// IsNodeAddr reports whether a node has this internal address.
func (c *Cluster) IsNodeAddr(addr netip.Addr) bool {
	c.byNode.look(c.nodes.All())
	defer c.byNode.mu.Unlock()
	_, has := c.byNode.addrs[addr.Unmap()]
	return has
}
