package balance

import (
	"math"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// endpoints makes n ready endpoints 10.0.0.1:80 and so on, each with a pod.
func endpoints(n int) []mesh.Endpoint {
	out := make([]mesh.Endpoint, n)
	for i := range out {
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), 80)
		out[i] = mesh.Endpoint{Addr: addr, Workload: &mesh.Workload{UID: addr.String()}, Ready: true}
	}
	return out
}

func balancer(list []mesh.Endpoint) *Balancer {
	b := New()
	b.Update(at, list, nil, true)
	return b
}

// at is a time at which no latency has faded yet.
const at = time.Second

// none is an outcome that says nothing about the endpoint.
var none = Outcome{Latency: -1}

func pick(t *testing.T, b *Balancer, exclude ...netip.AddrPort) Ticket {
	t.Helper()
	got, ok := b.Pick(at, exclude...)
	if !ok {
		t.Fatal("no endpoint")
	}
	return got
}

// pending is the number of requests that are in flight at e.
func pending(e *Endpoint) int64 { return e.meter.pending.Load() }

func TestNoEndpoints(t *testing.T) {
	if _, ok := New().Pick(at); ok {
		t.Error("a new balancer has an endpoint")
	}
	list := endpoints(2)
	list[0].Ready, list[1].Ready = false, false
	if _, ok := balancer(list).Pick(at); ok {
		t.Error("an endpoint that is not ready was picked")
	}
}

func TestReadyOnly(t *testing.T) {
	list := endpoints(3)
	list[1].Ready = false
	b := balancer(list)
	for range 200 {
		if e := pick(t, b); e.Endpoint.Addr == list[1].Addr {
			t.Fatal("an endpoint that is not ready was picked")
		}
	}
}

// While nothing is in flight, all endpoints are equal and are chosen equally often.
func TestSpreadAmongEquals(t *testing.T) {
	const n, picks = 10, 20_000
	b := balancer(endpoints(n))
	count := map[netip.AddrPort]int{}
	for range picks {
		e := pick(t, b)
		count[e.Endpoint.Addr]++
		b.Done(e, at, none)
	}
	const mean = picks / n
	sigma := math.Sqrt(mean * (1 - 1.0/n))
	for addr, c := range count {
		if math.Abs(float64(c-mean)) > 6*sigma {
			t.Errorf("%v: picked %d times, want %d ± %.0f", addr, c, mean, 6*sigma)
		}
	}
	if len(count) != n {
		t.Errorf("%d endpoints were picked, want %d", len(count), n)
	}
}

// Two choices keep the endpoint with the most requests close to the mean. One random
// choice would exceed it by about 3 sqrt(1000) = 95.
func TestSpreadOfLoad(t *testing.T) {
	const n, picks = 20, 20_000
	b := balancer(endpoints(n))
	last := map[netip.AddrPort]*Endpoint{}
	for range picks {
		e := pick(t, b).Endpoint
		last[e.Addr] = e
	}
	for addr, e := range last {
		if over := pending(e) - picks/n; over > 10 || over < -25 {
			t.Errorf("%v: %d in flight, want %d - 25 to %d + 10", addr, pending(e), picks/n, picks/n)
		}
	}
}

// An endpoint that does not finish its requests gets few new ones.
func TestSlowEndpoint(t *testing.T) {
	b := balancer(endpoints(3))
	slow := pick(t, b)
	for range 1000 {
		e := pick(t, b)
		if e.Endpoint == slow.Endpoint {
			t.Fatal("the busy endpoint was preferred to an idle one")
		}
		b.Done(e, at, none)
	}
	b.Done(slow, at, none)
	if pending(slow.Endpoint) != 0 {
		t.Errorf("%d in flight after the end, want 0", pending(slow.Endpoint))
	}
}

func TestExclude(t *testing.T) {
	list := endpoints(4)
	b := balancer(list)
	seen := map[netip.AddrPort]bool{}
	for range 200 {
		e := pick(t, b, list[1].Addr, list[3].Addr)
		seen[e.Endpoint.Addr] = true
		b.Done(e, at, none)
	}
	if len(seen) != 2 || !seen[list[0].Addr] || !seen[list[2].Addr] {
		t.Errorf("picked %v, want the two that are not excluded", seen)
	}
	if _, ok := b.Pick(at, list[0].Addr, list[1].Addr, list[2].Addr, list[3].Addr); ok {
		t.Error("an excluded endpoint was picked")
	}
	foreign := netip.MustParseAddrPort("192.0.2.1:80")
	b.Done(pick(t, b, foreign), at, none)
}

func TestAddressFamily(t *testing.T) {
	list := endpoints(2)
	list[1].Addr = netip.MustParseAddrPort("[2001:db8::1]:80")
	b := New()
	for _, v4 := range []bool{true, false} {
		b.Update(at, list, nil, v4)
		if e := pick(t, b); e.Endpoint.Addr.Addr().Is4() != v4 || b.Len() != 1 {
			t.Errorf("v4 %v: picked %v of %d, want the only one of the family", v4, e.Endpoint.Addr, b.Len())
		}
	}
	b.Update(at, list[:1], nil, false)
	if e := pick(t, b); !e.Endpoint.Addr.Addr().Is4() {
		t.Errorf("picked %v, want the IPv4 endpoint", e.Endpoint.Addr)
	}
}

func TestUpdateKeepsLoad(t *testing.T) {
	list := endpoints(1)
	b := balancer(list)
	first := pick(t, b)

	list[0].Ready = false
	b.Update(at, list, nil, true)
	newer := *list[0].Workload // a new snapshot has new values for the same pod
	list[0].Ready, list[0].Workload = true, &newer
	b.Update(at, append(list, list[0]), nil, true) // a duplicate counts once
	second := pick(t, b)
	if pending(second.Endpoint) != 2 || second.Endpoint.Workload != &newer || b.Len() != 1 {
		t.Errorf("%d in flight of %d endpoints, want 2 of 1", pending(second.Endpoint), b.Len())
	}
	b.Done(first, at, none)
	b.Done(second, at, none)
	if pending(second.Endpoint) != 0 {
		t.Errorf("%d in flight, want 0", pending(second.Endpoint))
	}

	held := pick(t, b)
	list[0].Workload = &mesh.Workload{UID: "another pod with this address"}
	b.Update(at, list, nil, true)
	if e := pick(t, b); pending(e.Endpoint) != 1 {
		t.Errorf("the new pod has %d in flight, want 1", pending(e.Endpoint))
	}
	b.Update(at, nil, nil, true)
	b.Done(held, at, none) // after removal
	if _, ok := b.Pick(at); ok || pending(held.Endpoint) != 0 {
		t.Errorf("after removal: picked %v, %d in flight; want false, 0", ok, pending(held.Endpoint))
	}
}

// An endpoint that answers slowly gets few requests, even while nothing is in flight.
func TestSlowAnswers(t *testing.T) {
	b := balancer(endpoints(2))
	slow := pick(t, b)
	b.Done(slow, at, Outcome{Latency: time.Second, Result: Success})
	for range 50 {
		e := pick(t, b)
		if e.Endpoint == slow.Endpoint {
			t.Fatal("the slower of two was picked")
		}
		b.Done(e, at, Outcome{Latency: time.Millisecond, Result: Success})
	}
}

func TestConcurrent(t *testing.T) {
	list := endpoints(5)
	b := balancer(list)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 2000 {
				if e, ok := b.Pick(at, list[0].Addr); ok {
					b.Done(e, at, none)
				}
			}
		})
	}
	wg.Go(func() {
		for i := range 200 {
			b.Update(at, list[:2+i%4], nil, true)
		}
	})
	wg.Wait()
	b.Update(at, list, nil, true)
	for range 50 {
		e := pick(t, b)
		if pending(e.Endpoint) != 1 {
			t.Fatalf("%v: %d in flight, want 1", e.Endpoint.Addr, pending(e.Endpoint))
		}
		b.Done(e, at, none)
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	list := endpoints(5)
	b := balancer(list)
	excluded := list[0].Addr
	if n := testing.AllocsPerRun(1000, func() {
		for _, e := range [...]Ticket{pick(t, b), pick(t, b, excluded)} {
			b.Done(e, at, none)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkPick(b *testing.B) {
	bal := balancer(endpoints(10))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			e, _ := bal.Pick(Now())
			bal.Done(e, Now(), none)
		}
	})
}

// A caller that has a connection to an endpoint is given that endpoint also while it is not
// ready, and when it is not the service's any more. Nobody else is.
func TestPickAtEndpointsThatLeave(t *testing.T) {
	list := endpoints(3)
	unready := slices.Clone(list)
	unready[0].Ready = false
	next := slices.Clone(list)
	next[0].Workload = &mesh.Workload{UID: "next"}
	for name, c := range map[string]struct {
		update []mesh.Endpoint
		want   string // UID of the endpoint at the first address
	}{
		"as before":            {list, list[0].Workload.UID},
		"not ready":            {unready, list[0].Workload.UID},
		"removed":              {list[1:], list[0].Workload.UID},
		"the last one":         {nil, list[0].Workload.UID},
		"another pod is there": {next, "next"},
	} {
		t.Run(name, func(t *testing.T) {
			b := balancer(list)
			b.Update(at, c.update, nil, true)
			got, ok := b.PickAt(at, list[0].Addr)
			if !ok || got.Endpoint.Workload.UID != c.want {
				t.Fatalf("got %+v, %v; want the endpoint of %s", got.Endpoint, ok, c.want)
			}
			if change := b.Done(got, at, none); change != Unchanged {
				t.Errorf("the outcome changes %d, want nothing", change)
			}
			if n := pending(got.Endpoint); n != 0 {
				t.Errorf("%d in flight after the end, want 0", n)
			}
			if name != "as before" && name != "another pod is there" && len(c.update) > 0 {
				for range 200 {
					if e := pick(t, b); e.Endpoint.Addr == list[0].Addr {
						t.Fatal("it was picked for a caller that has no connection to it")
					}
				}
			}
		})
	}
	if _, ok := balancer(list).PickAt(at, netip.MustParseAddrPort("192.0.2.1:80")); ok {
		t.Error("an address that no endpoint had was picked")
	}
	b := balancer(endpoints(200))
	b.Update(at, nil, nil, true)
	if len(b.left) != leftAtMost {
		t.Errorf("%d endpoints are remembered, want %d", len(b.left), leftAtMost)
	}
}
