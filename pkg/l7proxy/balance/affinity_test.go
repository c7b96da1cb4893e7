package balance

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
)

func client(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }

func pickFor(t *testing.T, b *Balancer, c netip.Addr, exclude ...netip.AddrPort) netip.AddrPort {
	t.Helper()
	e, ok := b.PickFor(at, c, exclude...)
	if !ok {
		t.Fatal("no endpoint")
	}
	b.Done(e, at, none)
	return e.Endpoint.Addr
}

func reversed(list []mesh.Endpoint) []mesh.Endpoint {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}

func TestAffinityHolds(t *testing.T) {
	const clients = 3000
	list := endpoints(3)
	b, elsewhere := balancer(list), balancer(reversed(list))
	share := map[netip.AddrPort]int{}
	before := map[int]netip.AddrPort{}
	for i := range clients {
		a := pickFor(t, b, client(i))
		if again := pickFor(t, b, client(i)); again != a {
			t.Fatalf("client %d: %s, then %s", i, a, again)
		}
		if other := pickFor(t, elsewhere, client(i)); other != a {
			t.Fatalf("client %d: %s here, %s where the endpoints are listed in another order", i, a, other)
		}
		share[a]++
		before[i] = a
	}
	for addr, n := range share {
		if n < clients/3*8/10 || n > clients/3*12/10 {
			t.Errorf("%s has %d of %d clients, want %d ± 20%%", addr, n, clients, clients/3)
		}
	}
	gone := list[1].Addr
	b.Update(at, append(endpoints(1), list[2]), nil, true)
	for i, a := range before {
		if now := pickFor(t, b, client(i)); now != a && a != gone {
			t.Errorf("client %d got %s, want %s, which is still there", i, now, a)
		}
	}
}

func TestAffinityExcludes(t *testing.T) {
	b := balancer(endpoints(2))
	first := pickFor(t, b, client(1))
	second := pickFor(t, b, client(1), first)
	if first == second {
		t.Errorf("got %s, want another one than the excluded", second)
	}
	if _, ok := b.PickFor(at, client(1), first, second); ok {
		t.Error("an endpoint although all are excluded")
	}
}

func TestAffinityAllocates(t *testing.T) {
	b := balancer(endpoints(10))
	if n := testing.AllocsPerRun(100, func() {
		e, _ := b.PickFor(at, client(7))
		b.Done(e, at, none)
	}); n > 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
