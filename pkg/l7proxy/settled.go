package l7proxy

import (
	"net/netip"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/mesh"
)

// Settled returns where all connections of local, a pod of this node, to dst go, if nothing
// about them is left for the proxy to decide. The error says why that is not so.
func (p *Proxy) Settled(local *mesh.Workload, dst netip.AddrPort) (destination.Settled, error) {
	return p.directory.Settled(local, dst, p.PathsOfRequests)
}

// used tells of an outbound connection that the proxy carries, if the next one like it may take
// the kernel path.
func (s *session) used() {
	p := s.proxy
	if p.Paths == nil || s.inbound != nil {
		return
	}
	if !s.Target.Opaque() {
		if !p.PathsOfRequests {
			return
		}
		// Most destinations of requests are not settled. They must not take the places of others.
		if _, err := p.Settled(s.Target.Local(), s.Original); err != nil {
			return
		}
	}
	p.Paths.Used(s.Target.Local(), s.Original)
}

// MayConnect returns why client may not be connected to an address of server, both pods of
// this node, or nil.
func (p *Proxy) MayConnect(client, server *mesh.Workload, to netip.AddrPort) error {
	return p.directory.MayConnect(client, server, to, p.PathsOfRequests)
}
