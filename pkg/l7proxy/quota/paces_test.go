package quota

import (
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestPacesAreBySource: what one source does makes no other wait, and agents may forward
// more than one client does.
func TestPacesAreBySource(t *testing.T) {
	var p Paces
	id := mesh.Identity{Namespace: "a", ServiceAccount: "b"}
	addr, now := netip.MustParseAddr("10.0.0.1"), time.Hour
	for name, test := range map[string]struct {
		source Source
		burst  int
	}{
		"pod":                  {PodSource("1"), VainBurst},
		"another pod":          {PodSource("2"), VainBurst},
		"client":               {ClientSource(addr, mesh.Identity{}), VainBurst},
		"agent at the address": {ClientSource(addr, id), agentSlack * VainBurst},
	} {
		if wait := p.Add(test.source, now, test.burst); wait != 0 {
			t.Errorf("%s: a burst of %d waits %v, want 0", name, test.burst, wait)
		}
		if wait := p.Add(test.source, now, 1); wait == 0 {
			t.Errorf("%s: one more than %d does not wait", name, test.burst)
		}
		first, second := p.Start(test.source, now), p.Start(test.source, now)
		if first == 0 || second <= first {
			t.Errorf("%s: two sessions start after %v and %v, want one after the other", name, first, second)
		}
	}
}

// TestPacesUpTo: what has no wait of its own makes a session wait for so long at most, and adds nothing
// to a longer wait.
func TestPacesUpTo(t *testing.T) {
	var p Paces
	source, now := PodSource("1"), time.Hour
	const most, n = time.Second, 40
	for range 10 * VainRate / n {
		p.AddUpTo(source, now, n, most)
	}
	once := n * time.Second / VainRate
	if wait := p.Start(source, now); wait < most || wait > most+once+startCost*time.Second/VainRate {
		t.Errorf("a session waits %v, want %v and one more at most", wait, most)
	}
	p.Add(source, now, 2*VainRate)
	before := p.Start(source, now)
	p.AddUpTo(source, now, n, most)
	if wait, want := p.Start(source, now), before+startCost*time.Second/VainRate; wait != want {
		t.Errorf("a session waits %v, want %v", wait, want)
	}
}

// TestPacesAreBounded: sources that did nothing lately are forgotten, and those over the
// bound share a Pace.
func TestPacesAreBounded(t *testing.T) {
	var p Paces
	source := func(i int) Source {
		return ClientSource(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), mesh.Identity{})
	}
	now := time.Hour
	for i := range 3 * maxPaces {
		p.Add(source(i), now, VainBurst)
	}
	if n := len(p.bySource); n != maxPaces {
		t.Errorf("%d sources are remembered, want %d", n, maxPaces)
	}
	if wait := p.Add(source(3*maxPaces), now, 1); wait == 0 {
		t.Error("a source over the bound does not wait")
	}
	now += time.Second
	if wait := p.Add(source(3*maxPaces+1), now, VainBurst); wait != 0 || len(p.bySource) != 1 {
		t.Errorf("later: a new source waits %v and %d are remembered, want 0 and 1", wait, len(p.bySource))
	}
}

// TestClientSource: IPv6 clients that have proved nothing are counted by their /64.
func TestClientSource(t *testing.T) {
	id := mesh.Identity{Namespace: "a"}
	a, b := netip.MustParseAddr("fd00::1:2"), netip.MustParseAddr("fd00::2:3")
	if ClientSource(a, mesh.Identity{}) != ClientSource(b, mesh.Identity{}) {
		t.Error("two addresses of a /64 are two sources, want one")
	}
	if ClientSource(a, id) == ClientSource(b, id) {
		t.Error("two addresses with an identity are one source, want two")
	}
	if ClientSource(netip.MustParseAddr("::ffff:10.0.0.1"), id) != ClientSource(netip.MustParseAddr("10.0.0.1"), id) {
		t.Error("an IPv4 address is another source when it is mapped, want the same")
	}
}
