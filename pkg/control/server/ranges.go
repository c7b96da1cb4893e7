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

// spans counts the addresses of meshed pods, and of the Services that lead to meshed pods, by
// the smallest range that has each.
type spans struct {
	inside, external map[netip.Prefix]int
	moved            bool // a range is new, or has no address any more
}

func newSpans() spans {
	return spans{inside: map[netip.Prefix]int{}, external: map[netip.Prefix]int{}, moved: true}
}

// prefixes returns the ranges that contain all the addresses, those of one kind sorted.
func (s *spans) prefixes() []netip.Prefix {
	inside4, inside6 := byFamily(s.inside)
	external4, external6 := byFamily(s.external)
	return slices.Concat(
		cover(inside4, rangeBits4, fewestBits4), cover(inside6, rangeBits6, fewestBits6),
		cover(external4, externalBits4, fewestBits4), cover(external6, externalBits6, fewestBits6),
	)
}

func byFamily(counts map[netip.Prefix]int) (v4, v6 []netip.Addr) {
	for p := range counts {
		if a := p.Addr(); a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	return v4, v6
}

// workload counts the addresses of a pod n times.
func (s *spans) workload(w *mesh.Workload, n int) {
	if w != nil && w.Meshed {
		s.count(s.inside, w.Addrs, n, rangeBits4, rangeBits6)
	}
}

// service counts the addresses of a Service n times.
func (s *spans) service(svc *mesh.Service, n int) {
	if svc == nil || !slices.ContainsFunc(svc.Ports, leadsIntoMesh) {
		return
	}
	s.count(s.inside, svc.VIPs, n, rangeBits4, rangeBits6)
	for _, p := range svc.Ports {
		if leadsIntoMesh(p) {
			s.count(s.external, p.External, n, externalBits4, externalBits6)
		}
	}
}

func (s *spans) count(in map[netip.Prefix]int, addrs []netip.Addr, n, bits4, bits6 int) {
	for _, a := range addrs {
		bits := bits6
		if a = a.Unmap().WithZone(""); a.Is4() {
			bits = bits4
		}
		p, err := a.Prefix(bits)
		if err != nil {
			continue // not an address
		}
		before := in[p]
		if in[p] = before + n; in[p] == 0 {
			delete(in, p)
		}
		s.moved = s.moved || before == 0 || before+n == 0
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
