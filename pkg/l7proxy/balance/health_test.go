package balance

import (
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

var unreachable = Outcome{Latency: -1, Result: Unreachable}

// leave makes an endpoint unreachable by the outcome of a request.
func leave(t *testing.T, b *Balancer, addr netip.AddrPort) {
	t.Helper()
	for range 1000 {
		got := pick(t, b)
		if got.Endpoint.Addr == addr {
			if c := b.Done(got, at, unreachable); c != EjectedUnreachable {
				t.Fatalf("got %d, want %d", c, EjectedUnreachable)
			}
			return
		}
		b.Done(got, at, none)
	}
	t.Fatalf("%s was never picked", addr)
}

func picked(t *testing.T, b *Balancer, exclude ...netip.AddrPort) map[netip.AddrPort]bool {
	t.Helper()
	seen := map[netip.AddrPort]bool{}
	for range 200 {
		got := pick(t, b, exclude...)
		seen[got.Endpoint.Addr] = true
		b.Done(got, at, none)
	}
	return seen
}

func TestPickLeavesEjectedAlone(t *testing.T) {
	list := endpoints(3)
	b := balancer(list)
	leave(t, b, list[0].Addr)
	if seen := picked(t, b); seen[list[0].Addr] || len(seen) != 2 {
		t.Errorf("picked %v, want the two that are in", seen)
	}
	if b.EjectedUnreachable(list[0].Addr) == nil || b.EjectedUnreachable(list[1].Addr) != nil || b.Ejected() != 1 || b.Len() != 3 {
		t.Errorf("%d of %d are out, want only %s of 3", b.Ejected(), b.Len(), list[0].Addr)
	}
	leave(t, b, list[1].Addr)
	if seen := picked(t, b); len(seen) != 1 || !seen[list[2].Addr] {
		t.Errorf("picked %v, want only %s", seen, list[2].Addr)
	}
	// The last one stays in. If a request excludes it, Pick chooses ejected ones.
	b.Done(pick(t, b), at, unreachable)
	if seen := picked(t, b, list[2].Addr); len(seen) != 2 {
		t.Errorf("without the last: picked %v, want both ejected ones", seen)
	}
	if c := b.Readmit(at, list[0].Addr); c != Readmitted {
		t.Errorf("Readmit: got %d, want %d", c, Readmitted)
	}
	if seen := picked(t, b, list[2].Addr); len(seen) != 1 || !seen[list[0].Addr] {
		t.Errorf("after its return: picked %v, want only %s", seen, list[0].Addr)
	}
	if c := b.Eject(at, list[0].Addr); c != EjectedUnreachable {
		t.Errorf("Eject: got %d, want %d", c, EjectedUnreachable)
	}
	if c := b.Eject(at, netip.MustParseAddrPort("192.0.2.1:80")); c != Unchanged {
		t.Errorf("an endpoint of another service: got %d, want %d", c, Unchanged)
	}
}

func TestFailuresEject(t *testing.T) {
	list := endpoints(2)
	b := balancer(list)
	failure := Outcome{Latency: time.Millisecond, Result: Failure}
	for range 100 {
		b.Done(pick(t, b), at, failure)
	}
	if b.Ejected() != 0 {
		t.Fatal("failures count although nobody asked for it")
	}
	accrual := &mesh.FailureAccrual{Consecutive: 3, MinPenalty: time.Second, MaxPenalty: time.Minute}
	if err := b.SetPolicy(PolicyOf(accrual)); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		b.Done(pick(t, b), at, failure)
	}
	if b.Ejected() != 1 {
		t.Fatalf("%d of two are out, want all but the last one", b.Ejected())
	}
	// One request tries it when the back-off has passed.
	later := at + 2*time.Second
	trials := 0
	for range 100 {
		got, _ := b.Pick(later)
		if got.trial {
			trials++
			defer b.Done(got, later, Outcome{Latency: time.Millisecond, Result: Success})
			continue
		}
		b.Done(got, later, none)
	}
	if trials != 1 {
		t.Errorf("%d trials at a time, want 1", trials)
	}
	if b.SetPolicy(EjectPolicy{Failures: -1}) == nil {
		t.Error("an invalid policy: got no error, want one")
	}
	if err := b.SetPolicy(PolicyOf(nil)); err != nil {
		t.Error(err)
	}
}

func TestUpdateKeepsHealth(t *testing.T) {
	list := endpoints(3)
	b := balancer(list)
	leave(t, b, list[0].Addr)
	newer := *list[0].Workload
	list[0].Workload = &newer
	b.Update(at, list, nil, true)
	if b.EjectedUnreachable(list[0].Addr) == nil || b.Ejected() != 1 {
		t.Error("an update forgot that the endpoint cannot be reached")
	}
	list[0].Ready = false
	b.Update(at, list, nil, true)
	list[0].Ready = true
	b.Update(at, list, nil, true)
	if b.EjectedUnreachable(list[0].Addr) != nil || b.Ejected() != 0 {
		t.Error("it is ready again, and not trusted")
	}
	leave(t, b, list[0].Addr)
	list[0].Workload = &mesh.Workload{UID: "another pod with this address"}
	b.Update(at, list, nil, true)
	if b.EjectedUnreachable(list[0].Addr) != nil || b.Ejected() != 0 {
		t.Error("another pod has to answer for the one before")
	}
	leave(t, b, list[0].Addr)
	b.Update(at, list[1:], nil, true)
	if b.Ejected() != 0 {
		t.Error("its place was not given back when it was removed")
	}
}

func TestAffinityLeavesEjectedAlone(t *testing.T) {
	list := endpoints(3)
	b := balancer(list)
	first := pickFor(t, b, client(1))
	b.Eject(at, first)
	second := pickFor(t, b, client(1))
	if second == first {
		t.Errorf("got %s, want an endpoint that can be reached", second)
	}
	b.Readmit(at, first)
	if back := pickFor(t, b, client(1)); back != first {
		t.Errorf("got %s, want %s, which has returned", back, first)
	}
	b.Eject(at, first)
	b.Eject(at, second)
	third := pickFor(t, b, client(1))
	if got := pickFor(t, b, client(1), third); got != first {
		t.Errorf("without the last: got %s, want %s", got, first)
	}
}

// Far endpoints are used only while no near one is available.
func TestNearFirst(t *testing.T) {
	list := endpoints(4)
	near, far := list[:2], list[2:]
	b := New()
	b.Update(at, near, far, true)
	if seen := picked(t, b); len(seen) != 2 || !seen[near[0].Addr] || !seen[near[1].Addr] {
		t.Errorf("picked %v, want both near ones", seen)
	}
	leave(t, b, near[0].Addr)
	leave(t, b, near[1].Addr)
	if seen := picked(t, b); len(seen) != 2 || !seen[far[0].Addr] || !seen[far[1].Addr] {
		t.Errorf("with the near ones out: picked %v, want both far ones", seen)
	}
	if seen := picked(t, b, far[0].Addr, far[1].Addr); len(seen) != 2 || !seen[near[0].Addr] {
		t.Errorf("with nothing else left: picked %v, want both near ones", seen)
	}
	if addr := pickFor(t, b, client(1)); addr != far[0].Addr && addr != far[1].Addr {
		t.Errorf("with affinity: got %s, want a far one", addr)
	}
	if n := len(b.Ready()); n != 4 {
		t.Errorf("%d ready, want 4", n)
	}
	// An endpoint that was far and is near now keeps its state.
	b.Readmit(at, near[0].Addr)
	b.Update(at, list, nil, true)
	if b.EjectedUnreachable(near[1].Addr) == nil || b.Ejected() != 1 {
		t.Error("the health was forgotten")
	}
}

func TestPickAmongEjectedDoesNotAllocate(t *testing.T) {
	list := endpoints(5)
	b := New()
	b.Update(at, list[:2], list[2:], true)
	b.Eject(at, list[0].Addr)
	if n := testing.AllocsPerRun(1000, func() {
		got, _ := b.Pick(at, list[1].Addr)
		b.Done(got, at, none)
		got, _ = b.PickFor(at, netip.Addr{}, list[1].Addr)
		b.Done(got, at, Outcome{Latency: time.Millisecond, Result: Success})
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
