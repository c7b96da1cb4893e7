package observed

import (
	"net/netip"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/observe"
	"github.com/underlane/underlane/pkg/state"
)

// TestEnds: whose the other end of a connection is, is what the state says now, also of
// connections that share a place.
func TestEnds(t *testing.T) {
	store := state.NewStore("n1")
	peer, other := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	version := uint64(0)
	apply := func(name string, addr netip.Addr) {
		t.Helper()
		version++
		w := &mesh.Workload{UID: name, Name: name, Namespace: "ns", Node: "n2", Addrs: []netip.Addr{addr}}
		r := state.Resource{Name: state.WorkloadName(name), Version: string(rune('0' + version)), Workload: w}
		if err := store.Apply(state.Delta{Version: version, Synced: true, Resources: []state.Resource{r}}); err != nil {
			t.Fatal(err)
		}
	}
	w := New(Options{State: store, Controller: nobody{}})
	w.queue.length.Store(maxEvents) // it does not wait for the controller
	of := func(addr netip.Addr, port uint16) *event {
		o := &observe.Opening{Local: netip.AddrPortFrom(other, port), Remote: netip.AddrPortFrom(addr, 80), Name: netip.AddrPortFrom(addr, 80)}
		return &event{request: observe.Request{Flow: o}, at: time.Now()}
	}
	check := func(e *event, want string) {
		t.Helper()
		got := ""
		if p := w.end(t.Context(), e).peer; p != nil {
			got = p.Name
		}
		if got != want {
			t.Errorf("the other end is %q, want %q", got, want)
		}
	}
	apply("x", other)
	first, same := of(peer, 1000), of(other, 1000)
	check(first, "")
	apply("a", peer)
	for range 2 {
		check(first, "a")
		check(same, "x")
	}
	check(first, "a")
	apply("a", netip.MustParseAddr("10.0.0.3"))
	check(first, "")
	check(same, "x")
	w.ends.forget()
	if w.ends.view != nil {
		t.Error("a state is kept")
	}
}
