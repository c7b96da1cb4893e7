package control

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// Bounds of ranges: all agents get them, and again when one comes or goes.
const (
	rangeBits4, fewestBits4 = 24, 8
	rangeBits6, fewestBits6 = 64, 16
	rangesAtMost            = 64 // of one address family, made larger where there would be more
)

// rangesOf says where the addresses of meshed pods lie, and those of Services that
// lead to some: sorted.
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

// cover is a few ranges of one size that have all of addrs in them.
func cover(addrs []netip.Addr, bits, fewest int) []netip.Prefix {
	for ; ; bits-- {
		seen := make(map[netip.Prefix]bool)
		for _, a := range addrs {
			p, err := a.WithZone("").Prefix(bits)
			if err != nil {
				continue // it is no address
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

func encodeMeshRanges(prefixes []netip.Prefix) *pb.Resource {
	out := &pb.Ranges{}
	for _, p := range prefixes {
		out.Ranges = append(out.Ranges, &pb.Range{Addr: p.Addr().AsSlice(), Bits: uint32(p.Bits())})
	}
	return &pb.Resource{Name: state.RangesName, Content: &pb.Resource_Ranges{Ranges: out}}
}

func decodeMeshRanges(r *pb.Ranges) (*state.Ranges, error) {
	out := &state.Ranges{}
	for _, one := range r.GetRanges() {
		addr, err := decodeAddr(one.GetAddr())
		if err != nil {
			return nil, err
		}
		if one.GetBits() > uint32(addr.BitLen()) {
			return nil, fmt.Errorf("range %s/%d: too many bits", addr, one.GetBits())
		}
		out.Prefixes = append(out.Prefixes, netip.PrefixFrom(addr, int(one.GetBits())))
	}
	return out, nil
}
