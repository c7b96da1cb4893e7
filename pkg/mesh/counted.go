package mesh

import "net/netip"

// CountedAs returns the address that connections from addr are counted as where each source
// has a share or a rate: addr itself, without its zone; of IPv6, where a client has a whole
// network to choose addresses from, the first address of the /64. Loopback stays as it is.
func CountedAs(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() && !addr.IsLoopback() {
		if network, err := addr.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return addr
}
