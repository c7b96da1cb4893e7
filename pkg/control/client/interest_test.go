package client

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
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

func TestInterestIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newInterest(time.Hour)
		i.limit = 100
		used := netip.MustParseAddr("10.1.0.1")
		addr := used
		for range 1000 {
			i.add(addr)
			addr = addr.Next()
			time.Sleep(time.Millisecond)
			i.touch(used) // in use all the time
		}
		if n := i.len(); n > 100 {
			t.Errorf("%d addresses", n)
		}
		if i.used[used] == nil {
			t.Error("an address in use was evicted before idle ones")
		}
		on, off := i.take()
		if len(on) != i.len() || len(off) != 1000-i.len() {
			t.Errorf("%d to subscribe, %d to unsubscribe, %d held", len(on), len(off), i.len())
		}
		time.Sleep(2 * time.Hour)
		i.sweep()
		if n := i.len(); n != 0 {
			t.Errorf("%d addresses after the sweep", n)
		}
		for _, a := range []string{"127.0.0.1", "::1", "224.0.0.1", "fe80::1", "0.0.0.0", "169.254.1.1"} {
			i.add(netip.MustParseAddr(a))
		}
		if n := i.len(); n != 0 {
			t.Errorf("%d addresses that nobody in a cluster has", n)
		}
	})
}
