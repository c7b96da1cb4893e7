package layout

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// MaxNodes is the largest number of nodes in a lab. A node's number is a byte of
// its addresses, and the fabric uses the last few values.
const MaxNodes = 200

// The prefixes of the fabric. All addresses of a lab are in namespaces of that
// lab, so they do not conflict with those of other labs.
var (
	Fabric4   = netip.MustParsePrefix("192.168.77.0/24")
	Fabric6   = netip.MustParsePrefix("fd77::/64")
	Services4 = netip.MustParsePrefix("10.78.0.0/16")
	Services6 = netip.MustParsePrefix("fd78::/112")

	controller = uint64(254)
)

// NodeName returns the name of node n, counted from 1.
func NodeName(n int) string { return fmt.Sprintf("node-%d", n) }

// NodeAddrs returns node n's own addresses, IPv4 first.
func NodeAddrs(n int) []netip.Addr {
	return []netip.Addr{nth(Fabric4, uint64(n)), nth(Fabric6, uint64(n))}
}

// ControllerAddrs returns the controller's addresses, IPv4 first.
func ControllerAddrs() []netip.Addr {
	return []netip.Addr{nth(Fabric4, controller), nth(Fabric6, controller)}
}

// PodCIDRs returns the prefixes of the pods on node n, IPv4 first.
func PodCIDRs(n int) []netip.Prefix {
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(n), 0}), 24),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 3: 1, 5: byte(n)}), 64),
	}
}

// Gateways returns the addresses of the node's ends of its pods' links, IPv4
// first.
func Gateways(n int) []netip.Addr { return PodAddrs(n, 1) }

// FirstPod and LastPod bound the index of a pod on its node.
const (
	FirstPod = 2
	LastPod  = 254
)

// PodAddrs returns the addresses of the pod with this index on node n, IPv4 first.
func PodAddrs(n, index int) []netip.Addr {
	cidrs := PodCIDRs(n)
	return []netip.Addr{nth(cidrs[0], uint64(index)), nth(cidrs[1], uint64(index))}
}

// ServiceAddrs returns the ClusterIPs of the service with this index (from 1),
// IPv4 first.
func ServiceAddrs(index int) []netip.Addr {
	return []netip.Addr{nth(Services4, uint64(index)), nth(Services6, uint64(index))}
}

// LastService bounds the index of a service.
const LastService = 65000

// HostVeth returns the name of the node's end of the link of the pod with this
// index. The index is the last byte of the pod's IPv4 address.
func HostVeth(index int) string { return fmt.Sprintf("veth-%d", index) }

// nth returns address number n of prefix p.
func nth(p netip.Prefix, n uint64) netip.Addr {
	b := p.Masked().Addr().As16()
	low := binary.BigEndian.Uint64(b[8:])
	binary.BigEndian.PutUint64(b[8:], low+n)
	return netip.AddrFrom16(b).Unmap()
}
