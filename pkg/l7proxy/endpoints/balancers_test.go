package endpoints

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/mesh"
)

// TestHints: as kube-proxy goes by them.
func TestHints(t *testing.T) {
	ep := func(i int, zones, nodes string, ready bool) mesh.Endpoint {
		e := mesh.Endpoint{Addr: endpointAddr(i), Ready: ready}
		if zones != "" {
			e.ForZones = []string{zones}
		}
		if nodes != "" {
			e.ForNodes = []string{nodes}
		}
		return e
	}
	local := &mesh.Workload{Node: "node-1", Zone: "a"}
	for name, c := range map[string]struct {
		endpoints []mesh.Endpoint
		local     *mesh.Workload
		want      []int // the near ones
	}{
		"no hints":                    {[]mesh.Endpoint{ep(1, "", "", true), ep(2, "", "", true)}, local, []int{1, 2}},
		"zones":                       {[]mesh.Endpoint{ep(1, "a", "", true), ep(2, "b", "", true)}, local, []int{1}},
		"one without a hint":          {[]mesh.Endpoint{ep(1, "a", "", true), ep(2, "", "", true)}, local, []int{1, 2}},
		"one without, but not ready":  {[]mesh.Endpoint{ep(1, "a", "", true), ep(2, "", "", false)}, local, []int{1}},
		"none for this zone":          {[]mesh.Endpoint{ep(1, "b", "", true), ep(2, "c", "", true)}, local, []int{1, 2}},
		"for this zone, but unready":  {[]mesh.Endpoint{ep(1, "a", "", false), ep(2, "b", "", true)}, local, []int{1, 2}},
		"a node without a zone":       {[]mesh.Endpoint{ep(1, "a", "", true), ep(2, "b", "", true)}, &mesh.Workload{Node: "node-1"}, []int{1, 2}},
		"nodes before zones":          {[]mesh.Endpoint{ep(1, "a", "node-2", true), ep(2, "b", "node-1", true)}, local, []int{2}},
		"zones, for no node is there": {[]mesh.Endpoint{ep(1, "a", "node-2", true), ep(2, "b", "node-3", true)}, local, []int{1}},
	} {
		near, far := mesh.Eligible(&mesh.Service{}, &mesh.ServicePort{Endpoints: c.endpoints}, c.local)
		var got []int
		for i, e := range c.endpoints {
			in := func(list []mesh.Endpoint) bool {
				return slices.ContainsFunc(list, func(o mesh.Endpoint) bool { return o.Addr == e.Addr })
			}
			if in(near) {
				got = append(got, i+1)
			}
			if in(near) == in(far) {
				t.Errorf("%s: endpoint %d is near %v and far %v", name, i+1, in(near), in(far))
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestZoneComesLate: that the node's zone is known later moves the clients.
func TestZoneComesLate(t *testing.T) {
	b := balancers{log: slog.New(slog.DiscardHandler), byPort: make(map[portKey]*portBalancer)}
	svc := &mesh.Service{Name: "s", Namespace: "n"}
	port := &mesh.ServicePort{Port: 80, Endpoints: []mesh.Endpoint{
		{Addr: endpointAddr(1), Ready: true, ForZones: []string{"a"}}, {Addr: endpointAddr(2), Ready: true, ForZones: []string{"b"}},
	}}
	seen := func(local *mesh.Workload) int {
		one, addrs := b.get(svc, port, local, true, 1), map[netip.AddrPort]bool{}
		for range 100 {
			ticket, _ := one.Pick(balance.Now())
			addrs[ticket.Endpoint.Addr] = true
			one.Done(ticket, 0, balance.Outcome{Latency: -1})
		}
		return len(addrs)
	}
	if n := seen(&mesh.Workload{}); n != 2 {
		t.Errorf("%d endpoints while the zone is not known", n)
	}
	if n := seen(&mesh.Workload{Zone: "a"}); n != 1 {
		t.Errorf("%d endpoints in one zone", n)
	}
}

// TestServicePolicy: a Service's failure accrual holds, and ends.
func TestServicePolicy(t *testing.T) {
	b := balancers{log: slog.New(slog.DiscardHandler), byPort: make(map[portKey]*portBalancer)}
	port := func() *mesh.ServicePort {
		return &mesh.ServicePort{Port: 80, Endpoints: []mesh.Endpoint{{Addr: endpointAddr(1), Ready: true}, {Addr: endpointAddr(2), Ready: true}}}
	}
	out := func(svc *mesh.Service, version uint64) int {
		one := b.get(svc, port(), &mesh.Workload{}, true, version)
		for range 20 {
			ticket, _ := one.Pick(balance.Now())
			one.Done(ticket, balance.Now(), balance.Outcome{Latency: time.Millisecond, Result: balance.Failure})
		}
		return one.Ejected()
	}
	plain := &mesh.Service{Name: "s", Namespace: "n"}
	strict := *plain
	strict.FailureAccrual = &mesh.FailureAccrual{Consecutive: 2, MinPenalty: time.Minute, MaxPenalty: time.Minute}
	broken := *plain
	broken.FailureAccrual = &mesh.FailureAccrual{Consecutive: -2}
	if n := out(plain, 1); n != 0 {
		t.Errorf("%d are out although failures do not count", n)
	}
	if n := out(&broken, 2); n != 0 {
		t.Errorf("%d are out by a policy without sense", n)
	}
	if n := out(&strict, 3); n != 1 {
		t.Errorf("%d of two are out, want one", n)
	}
}

func endpointAddr(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), uint16(n))
}

func TestOlderViewDoesNotBringEndpointsBack(t *testing.T) {
	b := balancers{log: slog.New(slog.DiscardHandler), byPort: make(map[portKey]*portBalancer)}
	svc := &mesh.Service{Name: "s", Namespace: "n"}
	older := &mesh.ServicePort{Port: 80, Endpoints: []mesh.Endpoint{{Addr: endpointAddr(1), Ready: true}, {Addr: endpointAddr(2), Ready: true}}}
	newer := &mesh.ServicePort{Port: 80, Endpoints: []mesh.Endpoint{{Addr: endpointAddr(1), Ready: true}}}
	local := &mesh.Workload{}
	b.get(svc, older, local, true, 1)
	b.get(svc, newer, local, true, 2)
	if n := b.get(svc, older, local, true, 1).Len(); n != 1 {
		t.Errorf("%d endpoints after an older view was seen again, want 1", n)
	}
	if n := b.get(svc, older, local, true, 3).Len(); n != 2 {
		t.Errorf("%d endpoints in a view that has them again, want 2", n)
	}
}
