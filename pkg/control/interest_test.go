package control

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestLatestInterest(t *testing.T) {
	i := newInterest(time.Minute)
	var addrs []netip.Addr
	for n := range 5 {
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})
		i.add(addr)
		i.used[addr].Store(int64(n))
		addrs = append(addrs, addr)
	}
	if got := i.latest(3); !slices.Equal(got, addrs[2:]) {
		t.Errorf("the last three: %v", got)
	}
	if got := i.latest(9); !slices.Equal(got, addrs) {
		t.Errorf("all: %v", got)
	}
}
