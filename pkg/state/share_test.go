package state

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
)

// randomResource draws a resource of a small mesh, in which everything meets.
func randomResource(r *rand.Rand, version int) Resource {
	n := func(k int) int { return r.IntN(k) }
	addr := func() netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + n(4))}) }
	out := Resource{Version: fmt.Sprint(version)}
	switch n(7) {
	case 0, 1:
		uid := fmt.Sprint(n(6))
		out.Name = WorkloadName(uid)
		out.Workload = &mesh.Workload{
			UID: uid, Name: uid, Namespace: fmt.Sprint(n(2)), Node: fmt.Sprint("n", n(2)), Ready: n(2) == 0, HostNetwork: n(6) == 0,
			Addrs: []netip.Addr{addr(), addr()},
		}
	case 2, 3:
		s := &mesh.Service{Namespace: "a", Name: fmt.Sprint(n(4)), VIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 0, byte(n(3))})}}
		for i := range 1 + n(2) {
			p := mesh.ServicePort{Port: uint16(80 + i), NodePort: uint16(n(2) * 30000)}
			if n(2) == 0 {
				p.External = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(n(2))}), addr()}
			}
			for range n(4) {
				p.Endpoints = append(p.Endpoints, mesh.Endpoint{Addr: netip.AddrPortFrom(addr(), 80), WorkloadUID: fmt.Sprint(n(7))})
			}
			s.Ports = append(s.Ports, p)
		}
		out.Name, out.Service = ServiceName(s.Namespace, s.Name), s
	case 4:
		out.Route = &mesh.Route{
			Kind: "HTTPRoute", Namespace: fmt.Sprint(n(2)), Name: fmt.Sprint(n(2)), Egress: n(3) == 0, Parent: mesh.ServicePortRef{Namespace: "a", Name: fmt.Sprint(n(3))},
			Rules: []mesh.RouteRule{{Name: fmt.Sprint(version)}},
		}
		out.Name = RouteName(out.Route)
	case 5:
		out.Address = &Address{Addr: addr(), Node: n(2) == 0}
		out.Name = AddressName(out.Address.Addr)
	case 6:
		e := &mesh.EgressNetwork{
			Namespace: fmt.Sprint(n(2)), Name: fmt.Sprint(n(2)), Global: n(2) == 0, Deny: n(2) == 0,
			Networks: []mesh.EgressRange{{CIDR: netip.MustParsePrefix("0.0.0.0/0")}},
		}
		out.Name, out.Egress = EgressName(e.Namespace, e.Name), e
		if n(3) == 0 {
			out = Resource{Name: RangesName, Version: out.Version, Ranges: &Ranges{Prefixes: []netip.Prefix{netip.PrefixFrom(addr(), 24)}}}
		}
	}
	return out
}

// seen is what callers see of a View.
func seen(v *View) string {
	d := v.Dump()
	d.Version, d.Upstream = 0, 0
	out := map[string]any{"dump": d, "ranges": fmt.Sprint(v.ranges), "hasEgress": v.HasEgress()}
	var local []string
	for _, w := range v.Local() {
		local = append(local, w.UID)
	}
	out["local"] = local
	for _, base := range []string{"10.0.0.0", "10.96.0.0", "192.0.2.0"} {
		a := netip.MustParseAddr(base)
		for range 6 {
			w, _ := v.Workload(a)
			s, port, ok := v.Service(netip.AddrPortFrom(a, 80))
			np, _, _ := v.Service(netip.AddrPortFrom(a, 30000))
			out[a.String()] = fmt.Sprint(w != nil && v.workloads.Get(w.UID) == w, w, s != nil && v.services.Get(ServiceName(s.Namespace, s.Name)) == s, name(s), port != nil, ok, name(np), v.Answered(a), v.Told(a))
			for _, ns := range []string{"0", "1"} {
				if n := v.Egress(ns, a); n != nil {
					out["egress "+ns+a.String()] = fmt.Sprint(*n, len(v.EgressRoutes(n)))
				}
			}
			a = a.Next()
		}
	}
	for _, s := range d.Services {
		for _, p := range s.Ports {
			for _, e := range p.Endpoints {
				if w, _ := v.WorkloadByUID(e.WorkloadUID); w != e.Workload {
					out["linked"] = s.Name
				}
			}
		}
	}
	text, err := json.Marshal(out)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func name(s *mesh.Service) string {
	if s == nil {
		return ""
	}
	return s.Name
}

// TestViewIsThatOfTheWhole: whatever the deltas, the View is the one that one delta with all
// resources gives, and an older View stays as it was.
func TestViewIsThatOfTheWhole(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 5))
		s := NewStore("n1")
		have := map[string]Resource{}
		for step := range 40 {
			old := s.View()
			before := seen(old)
			d := Delta{Version: uint64(step)}
			for i := range 1 + r.IntN(3) {
				res := randomResource(r, 10*step+i)
				d.Resources = append(d.Resources, res)
				have[res.Name] = res
			}
			for range min(r.IntN(3), len(have)) {
				all := slices.Sorted(maps.Keys(have))
				gone := all[r.IntN(len(all))]
				d.Removed = append(d.Removed, gone)
				delete(have, gone)
			}
			if err := s.Apply(d); err != nil {
				t.Fatal(err)
			}
			whole := NewStore("n1")
			if err := whole.Apply(Delta{Resources: slices.Collect(maps.Values(have))}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(seen(whole.View()), seen(s.View())); diff != "" {
				t.Fatalf("seed %d, step %d: -whole +got: %s", seed, step, diff)
			}
			if seen(old) != before {
				t.Fatalf("seed %d, step %d: an older View has changed", seed, step)
			}
		}
	}
}

// large returns a Store with so many services of 50 endpoints.
func large(services int) *Store {
	s := NewStore("n1")
	d := Delta{Version: 1, Synced: true}
	for i := range services {
		svc := &mesh.Service{Namespace: "a", Name: fmt.Sprint(i), VIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})}, Ports: []mesh.ServicePort{{Port: 80}}}
		for j := range 50 {
			w := pod(i, j, true)
			d.Resources = append(d.Resources, Resource{Name: WorkloadName(w.UID), Version: "1", Workload: w})
			svc.Ports[0].Endpoints = append(svc.Ports[0].Endpoints, mesh.Endpoint{Addr: netip.AddrPortFrom(w.Addrs[0], 80), WorkloadUID: w.UID, Ready: true})
		}
		d.Resources = append(d.Resources, Resource{Name: ServiceName("a", svc.Name), Version: "1", Service: svc})
	}
	if err := s.Apply(d); err != nil {
		panic(err)
	}
	return s
}

func pod(service, i int, ready bool) *mesh.Workload {
	return &mesh.Workload{
		UID: fmt.Sprintf("%d-%d", service, i), Namespace: "a", Node: "n2", Meshed: true, Ready: ready,
		Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(1 + service>>8), byte(service), byte(i)})},
	}
}

// changeOne changes one endpoint of one service.
func changeOne(s *Store, version int) {
	w := pod(3, 7, version%2 == 0)
	if err := s.Apply(Delta{Version: uint64(version), Resources: []Resource{{Name: WorkloadName(w.UID), Version: fmt.Sprint(version), Workload: w}}}); err != nil {
		panic(err)
	}
}

// TestAChangeCopiesNoMore: a change of one endpoint costs the same in a View four times as
// large.
func TestAChangeCopiesNoMore(t *testing.T) {
	cost := func(services int) uint64 {
		s := large(services)
		const times = 200
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i := range times {
			changeOne(s, 2+i)
		}
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / times
	}
	if small, big := cost(50), cost(200); float64(big) > 1.5*float64(small) {
		t.Errorf("50 services: %d bytes, 200 services: %d", small, big)
	}
}

// BenchmarkChangeOne is a change of one endpoint where the pods use 200 Services of 50
// endpoints.
func BenchmarkChangeOne(b *testing.B) {
	s := large(200)
	version := 1
	b.ReportAllocs()
	for b.Loop() {
		version++
		changeOne(s, version)
	}
}

// BenchmarkLookup finds the workload and the service of addresses in such a View.
func BenchmarkLookup(b *testing.B) {
	v := large(200).View()
	addr, vip := netip.MustParseAddr("10.1.3.7"), netip.MustParseAddrPort("10.96.0.3:80")
	b.ReportAllocs()
	for b.Loop() {
		if w, ok := v.Workload(addr); !ok || w == nil {
			b.Fatal()
		}
		if _, _, ok := v.Service(vip); !ok {
			b.Fatal()
		}
	}
}
