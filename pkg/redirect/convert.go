package redirect

import (
	"encoding/binary"
	"net/netip"

	"github.com/underlane/underlane/bpf"
	"github.com/underlane/underlane/pkg/mesh"
)

var (
	v4Loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	v6Loopback = netip.IPv6Loopback()
)

// mapAddress converts a to its form in the maps: 16 bytes, IPv4 as ::ffff:a.b.c.d.
func mapAddress(a netip.Addr) bpf.UnderlaneAddress {
	return bpf.UnderlaneAddress{Bytes: a.As16()}
}

func fromMap(a bpf.UnderlaneAddress, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a.Bytes).Unmap(), port)
}

// isLow is is_low of bpf/include/veths.h: whether a is the first of the two ends of a connection.
func isLow(a, b netip.AddrPort) bool {
	x, y := a.Addr().As16(), b.Addr().As16()
	for _, half := range []int{8, 0} {
		if i, j := binary.NativeEndian.Uint64(x[half:]), binary.NativeEndian.Uint64(y[half:]); i != j {
			return i < j
		}
	}
	return a.Port() < b.Port()
}

// flag converts b to a C truth value.
func flag(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

// cString converts a C string, which ends at the first NUL or with c.
func cString(c []int8) string {
	b := make([]byte, 0, len(c))
	for _, ch := range c {
		if ch == 0 {
			break
		}
		b = append(b, byte(ch))
	}
	return string(b)
}

func copyName(dst *[64]int8, name string) {
	*dst = [64]int8{}
	for i := 0; i < len(name) && i < len(dst)-1; i++ {
		dst[i] = int8(name[i])
	}
}

// copyRanges copies port ranges. The kernel's list has room for 8; it logs if there
// are more.
func (d *kernelMaps) copyRanges(dst *[8]bpf.UnderlanePortRange, ranges []mesh.PortRange, pod string) {
	*dst = [8]bpf.UnderlanePortRange{}
	for i, r := range ranges {
		if i == len(dst) {
			d.log.Warn("too many port ranges: the rest is not skipped", "pod", pod, "limit", len(dst))
			return
		}
		dst[i] = bpf.UnderlanePortRange{First: max(r.First, 1), Last: r.Last}
	}
}
