package codec

import (
	"fmt"
	"net/netip"

	pb "github.com/underlane/underlane/api/control/v1"
	"github.com/underlane/underlane/pkg/state"
)

// EncodeRanges returns the resource that gives agents the address ranges of the
// mesh.
func EncodeRanges(prefixes []netip.Prefix) *pb.Resource {
	out := &pb.Ranges{}
	for _, p := range prefixes {
		out.Ranges = append(out.Ranges, &pb.Range{Addr: p.Addr().AsSlice(), Bits: uint32(p.Bits())})
	}
	return &pb.Resource{Name: state.RangesName, Content: &pb.Resource_Ranges{Ranges: out}}
}

func decodeRanges(r *pb.Ranges) (*state.Ranges, error) {
	out := &state.Ranges{}
	for _, one := range r.GetRanges() {
		addr, err := DecodeAddr(one.GetAddr())
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
