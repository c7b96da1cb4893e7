package server

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
)

func TestRanges(t *testing.T) {
	addr := netip.MustParseAddr
	pod := &mesh.Workload{UID: "a", Meshed: true, Addrs: []netip.Addr{addr("10.1.2.3"), addr("fd00:1::3")}}
	near := &mesh.Workload{UID: "b", Meshed: true, Addrs: []netip.Addr{addr("::ffff:10.1.2.4")}}
	outside := &mesh.Workload{UID: "c", Addrs: []netip.Addr{addr("10.9.9.9")}}
	service := func(vip string, w *mesh.Workload) *mesh.Service {
		return &mesh.Service{
			Name: vip, VIPs: []netip.Addr{addr(vip)},
			Ports: []mesh.ServicePort{{Port: 80, Endpoints: []mesh.Endpoint{{Workload: w}}}},
		}
	}
	inside, past := service("10.96.0.7", pod), service("10.97.0.7", outside)
	inside.Ports[0].External = []netip.Addr{addr("192.0.2.7"), addr("2001:db8::7")}
	past.Ports[0].External = []netip.Addr{addr("192.0.2.8")}
	got := rangesOf(&Content{
		Workloads: []*mesh.Workload{pod, near, outside},
		Services:  []*mesh.Service{inside, past},
	})
	want := []netip.Prefix{
		netip.MustParsePrefix("10.1.2.0/24"), netip.MustParsePrefix("10.96.0.0/24"), netip.MustParsePrefix("fd00:1::/64"),
		netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8::7/128"),
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

// However many pods there are, the ranges are few, and have each of them.
func TestRangesAreFew(t *testing.T) {
	c := &Content{}
	for node := range 5000 {
		c.Workloads = append(c.Workloads, &mesh.Workload{Meshed: true, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(node >> 8), byte(node), 7})}})
	}
	ranges := rangesOf(c)
	if len(ranges) > rangesAtMost {
		t.Errorf("%d ranges", len(ranges))
	}
	for _, w := range c.Workloads {
		in := false
		for _, r := range ranges {
			in = in || r.Contains(w.Addrs[0])
		}
		if !in {
			t.Fatalf("%s is in none of %v", w.Addrs[0], ranges)
		}
	}
}

// rangesOf returns the ranges of a whole state.
func rangesOf(c *Content) []netip.Prefix {
	s := newSpans()
	for _, w := range c.Workloads {
		s.workload(w, 1)
	}
	for _, svc := range c.Services {
		s.service(svc, 1)
	}
	return s.prefixes()
}
