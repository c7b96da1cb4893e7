package balance_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/mesh"
)

func endpoint(addr string) mesh.Endpoint {
	return mesh.Endpoint{Addr: netip.MustParseAddrPort(addr), Ready: true}
}

// A request is counted from Pick to Done, and what comes of it decides where the next
// ones go.
func ExampleBalancer() {
	b := balance.New()
	now := balance.Now()
	b.Update(now, []mesh.Endpoint{endpoint("10.0.0.1:80"), endpoint("10.0.0.2:80")}, nil, true)

	first, _ := b.Pick(now)
	change := b.Done(first, now, balance.Outcome{Latency: -1, Result: balance.Unreachable})
	fmt.Println(change == balance.EjectedUnreachable, b.Ejected(), "of", b.Len())

	for range 100 { // never the one that cannot be reached
		t, _ := b.Pick(now)
		if t.Endpoint.Addr == first.Endpoint.Addr {
			fmt.Println("picked", t.Endpoint.Addr)
		}
		b.Done(t, now, balance.Outcome{Latency: time.Millisecond, Result: balance.Success})
	}
	fmt.Println(b.Readmit(now, first.Endpoint.Addr) == balance.Readmitted, b.Ejected())
	// Output:
	// true 1 of 2
	// true 0
}

// With session affinity a client keeps its endpoint, in whatever order they are listed.
func ExampleBalancer_PickFor() {
	client := netip.MustParseAddr("10.1.0.7")
	list := []mesh.Endpoint{endpoint("10.0.0.1:80"), endpoint("10.0.0.2:80"), endpoint("10.0.0.3:80")}
	here, there := balance.New(), balance.New()
	here.Update(1, list, nil, true)
	there.Update(1, []mesh.Endpoint{list[2], list[0], list[1]}, nil, true)
	a, _ := here.PickFor(1, client)
	b, _ := there.PickFor(1, client)
	fmt.Println(a.Endpoint.Addr == b.Endpoint.Addr)
	// Output: true
}

// An endpoint is ejected after three failures in a row, and tried again a second later.
func ExampleBalancer_SetPolicy() {
	b := balance.New()
	policy := balance.EjectPolicy{Failures: 3, MinBackoff: time.Second, MaxBackoff: time.Minute}
	if err := b.SetPolicy(policy); err != nil {
		fmt.Println(err)
		return
	}
	now := time.Minute
	b.Update(now, []mesh.Endpoint{endpoint("10.0.0.1:80"), endpoint("10.0.0.2:80")}, nil, true)
	bad := netip.MustParseAddrPort("10.0.0.1:80")
	for range 3 {
		t, _ := b.PickAt(now, bad)
		fmt.Println(b.Done(t, now, balance.Outcome{Latency: time.Millisecond, Result: balance.Failure}) == balance.Ejected)
	}
	// Output:
	// false
	// false
	// true
}

// The latency rises to a peak at once, and counts for every request in flight.
func ExamplePeakEWMA() {
	m := balance.NewPeakEWMA(10*time.Millisecond, 10*time.Second, 0)
	m.Begin(0)
	m.End(time.Second, 100*time.Millisecond)
	fmt.Println(time.Duration(m.Cost(time.Second)).Round(time.Millisecond))
	m.Begin(time.Second)
	fmt.Println(time.Duration(m.Cost(time.Second)).Round(time.Millisecond))
	// Output:
	// 100ms
	// 200ms
}
