package l7proxy

import (
	"net/netip"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/mesh"
)

// Settled returns where all connections of local, a pod of this node, to dst go, if nothing
// about them is left for the proxy to decide. The error says why that is not so.
func (p *Proxy) Settled(local *mesh.Workload, dst netip.AddrPort) (destination.Settled, error) {
	return p.directory.Settled(local, dst)
}

// MayConnect returns why client may not be connected to an address of server, both pods of
// this node, or nil. The error is a *mesh.ReasonError.
func (p *Proxy) MayConnect(client, server *mesh.Workload, to netip.AddrPort) error {
	return p.directory.MayConnect(client, server, to)
}
