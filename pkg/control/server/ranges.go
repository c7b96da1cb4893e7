package server

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/mesh"
)

// Limits of ranges. All agents get the ranges, and get them again when a range is
// added or removed.
const (
	rangeBits4, fewestBits4 = 24, 8
	rangeBits6, fewestBits6 = 64, 16
	externalBits4           = 32 // single addresses: the neighbours of an external address may belong to others
	externalBits6           = 128
	rangesAtMost            = 64 // per address family; if there would be more, each range is made larger
)

// rangesOf returns the ranges that contain the addresses of meshed pods, and of the
// Services that lead to meshed pods. The ranges of one kind are sorted.
func rangesOf(c *Content) []netip.Prefix {
	var inside, external addrs
	for _, w := range c.Workloads {
		if w.Meshed {
			inside.add(w.Addrs)
		}
	}
	for _, s := range c.Services {
		if slices.ContainsFunc(s.Ports, leadsIntoMesh) {
			inside.add(s.VIPs)
		}
		for _, p := range s.Ports {
			if leadsIntoMesh(p) {
				external.add(p.External)
			}
		}
	}
	return slices.Concat(
		cover(inside.v4, rangeBits4, fewestBits4), cover(inside.v6, rangeBits6, fewestBits6),
		cover(external.v4, externalBits4, fewestBits4), cover(external.v6, externalBits6, fewestBits6),
	)
}

// addrs holds addresses by family.
type addrs struct{ v4, v6 []netip.Addr }

func (l *addrs) add(all []netip.Addr) {
	for _, a := range all {
		if a = a.Unmap(); a.Is4() {
			l.v4 = append(l.v4, a)
		} else {
			l.v6 = append(l.v6, a)
		}
	}
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
