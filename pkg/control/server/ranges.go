package server

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/mesh"
)

// Bounds of ranges. All agents get them, and get them again when one appears or
// goes.
const (
	rangeBits4, fewestBits4 = 24, 8
	rangeBits6, fewestBits6 = 64, 16
	rangesAtMost            = 64 // of one address family; where there would be more, each is made larger
)

// rangesOf returns the ranges in which the addresses of meshed pods lie, and
// those of Services that lead to meshed pods: sorted.
func rangesOf(c *Content) []netip.Prefix {
	var v4, v6 []netip.Addr
	add := func(all []netip.Addr) {
		for _, a := range all {
			if a = a.Unmap(); a.Is4() {
				v4 = append(v4, a)
			} else {
				v6 = append(v6, a)
			}
		}
	}
	for _, w := range c.Workloads {
		if w.Meshed {
			add(w.Addrs)
		}
	}
	for _, s := range c.Services {
		if slices.ContainsFunc(s.Ports, leadsIntoMesh) {
			add(s.VIPs)
		}
	}
	return append(cover(v4, rangeBits4, fewestBits4), cover(v6, rangeBits6, fewestBits6)...)
}

func leadsIntoMesh(p mesh.ServicePort) bool {
	return slices.ContainsFunc(p.Endpoints, func(e mesh.Endpoint) bool { return e.Workload != nil && e.Workload.Meshed })
}

// cover returns a few ranges of one size that together contain all of addrs.
func cover(addrs []netip.Addr, bits, fewest int) []netip.Prefix {
	for ; ; bits-- {
		seen := make(map[netip.Prefix]bool)
		for _, a := range addrs {
			p, err := a.WithZone("").Prefix(bits)
			if err != nil {
				continue // not an address
			}
			seen[p] = true
			if len(seen) > rangesAtMost && bits > fewest {
				break
			}
		}
		if len(seen) > rangesAtMost && bits > fewest {
			continue
		}
		out := make([]netip.Prefix, 0, len(seen))
		for p := range seen {
			out = append(out, p)
		}
		slices.SortFunc(out, func(a, b netip.Prefix) int {
			return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
		})
		return out
	}
}
