package mesh

import (
	"net/netip"
	"time"
)

// SystemEgressNamespaces are the namespaces whose EgressNetworks apply to clients of all
// namespaces: the mesh's own, and the one that Linkerd has by default.
var SystemEgressNamespaces = []string{SystemNamespace, "linkerd-egress"}

// EgressNetwork is a set of addresses outside the mesh, and what is allowed there to clients
// that are subject to it. Routes with Route.Egress say more about it. It is immutable once
// published.
type EgressNetwork struct {
	Namespace, Name string
	Created         time.Time
	Global          bool // it applies to clients of all namespaces that have no EgressNetwork of their own
	Deny            bool // what no route allows is refused
	Networks        []EgressRange
	// Unknown says what of the object is not understood, or is "". Then Deny is set, and
	// routes allow nothing.
	Unknown string
}

// EgressRange is a range of addresses without some others.
type EgressRange struct {
	CIDR   netip.Prefix
	Except []netip.Prefix
}

// Contains reports whether addr is in the range. addr must not be v4-mapped.
func (r *EgressRange) Contains(addr netip.Addr) bool {
	if !r.CIDR.Contains(addr) {
		return false
	}
	for _, e := range r.Except {
		if e.Contains(addr) {
			return false
		}
	}
	return true
}

// Bits returns the length of the longest prefix of the network that contains addr, -1 if
// none does. Of two networks, the one with the longer prefix is the more specific one.
func (n *EgressNetwork) Bits(addr netip.Addr) int {
	addr, bits := addr.Unmap().WithZone(""), -1
	for i := range n.Networks {
		if r := &n.Networks[i]; r.CIDR.Bits() > bits && r.Contains(addr) {
			bits = r.CIDR.Bits()
		}
	}
	return bits
}

// Before reports whether n is considered before o where both have an address equally
// specific: the older one, then by namespace and name.
func (n *EgressNetwork) Before(o *EgressNetwork) bool {
	if c := n.Created.Compare(o.Created); c != 0 {
		return c < 0
	}
	if n.Namespace != o.Namespace {
		return n.Namespace < o.Namespace
	}
	return n.Name < o.Name
}
