package quota

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
)

var (
	inbound  = Key{UID: "server", Direction: mesh.Inbound}
	identity = mesh.Identity{TrustDomain: "t", Namespace: "n", ServiceAccount: "s"}
)

func stranger(i int) Source {
	return ClientSource(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), mesh.Identity{})
}

func peer(i int) Source {
	return ClientSource(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), identity)
}

// fillUp enters connections of a source until one is refused, and returns them and why.
func fillUp(p *Pods, key Key, from Source) (all []*Usage, err error) {
	for {
		u, err := p.Enter(key, from, 1)
		if err != nil {
			return all, err
		}
		all = append(all, u)
	}
}

// TestSourcesShareAPod: no source takes the connections to a pod from the others: strangers
// get half of what is free, peers two thirds, and further ones find some left.
func TestSourcesShareAPod(t *testing.T) {
	for name, test := range map[string]struct {
		source func(int) Source
		want   []int
	}{
		"strangers": {stranger, []int{500, 250, 125}},
		"peers":     {peer, []int{667, 222, 74}},
	} {
		p := &Pods{MaxConns: 1000, MaxBuffered: 1 << 20}
		var got []int
		var first []*Usage
		for i := range test.want {
			all, err := fillUp(p, inbound, test.source(i))
			if !errors.Is(err, ErrSource) {
				t.Errorf("%s: refused by %v, want %v", name, err, ErrSource)
			}
			if got = append(got, len(all)); i == 0 {
				first = all
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %d connections one after the other, want %d", name, got, test.want)
		}
		for _, u := range first {
			u.Leave()
		}
		if all, _ := fillUp(p, inbound, test.source(1)); len(all) == 0 {
			t.Errorf("%s: the second gets nothing of what the first has given back", name)
		}
	}
}

// TestPodsOwnConnections: a pod has its own connections for itself, up to its limit.
func TestPodsOwnConnections(t *testing.T) {
	p := &Pods{MaxConns: 100}
	key := Key{UID: "a", Direction: mesh.Outbound}
	if all, err := fillUp(p, key, PodSource("a")); len(all) != 100 || !errors.Is(err, ErrConnections) {
		t.Errorf("got %d connections and %v, want 100 and %v", len(all), err, ErrConnections)
	}
}

// TestDescriptorsOfTheNode: one source, or all that have proved nothing, do not take the
// descriptors of the node, and a client that proves an identity counts as a peer.
func TestDescriptorsOfTheNode(t *testing.T) {
	p := &Pods{MaxConns: 1 << 20, Descriptors: 1000}
	strangers := 0
	var one *Usage
	for i := range 20 {
		all, err := fillUp(p, inbound, stranger(i))
		if !errors.Is(err, ErrDescriptors) {
			t.Fatalf("refused by %v, want %v", err, ErrDescriptors)
		}
		if i == 0 {
			if one = all[0]; len(all) != 125 {
				t.Errorf("one stranger gets %d connections, want 125", len(all))
			}
		}
		strangers += len(all)
	}
	if strangers > 250 {
		t.Errorf("strangers get %d connections, want at most 250", strangers)
	}
	if err := one.Move(peer(1)); err != nil {
		t.Errorf("a stranger that proves an identity: %v, want no error", err)
	}
	if all, _ := fillUp(p, inbound, stranger(1000)); len(all) == 0 {
		t.Error("nothing is given back when a stranger proves an identity")
	}
	if all, _ := fillUp(p, Key{UID: "a", Direction: mesh.Outbound}, PodSource("a")); len(all) < 100 {
		t.Errorf("a pod of the node gets %d connections while strangers have all that they may, want at least 100", len(all))
	}
	if n := p.RefusedDescriptors(); n < 20 {
		t.Errorf("%d refusals are counted, want more than 20", n)
	}
}

// TestDescriptorsThatAreOpen: a connection is counted with a descriptor for its endpoint
// until that is opened, or is not needed; then those are counted that are open, also after
// the client's connection has ended. One that is over the client's share is not opened.
func TestDescriptorsThatAreOpen(t *testing.T) {
	p := &Pods{MaxConns: 100, Descriptors: 20} // strangers have half of these, one of them half of that
	key, from := inbound, stranger(1)
	counted := func(want int) {
		t.Helper()
		got := 0
		for used := range p.All() {
			got = used.Descriptors
		}
		if got != want || p.descriptors.used != want || p.strangers.used != want {
			t.Errorf("the pod has %d descriptors, all have %d, strangers %d; want %d", got, p.descriptors.used, p.strangers.used, want)
		}
	}
	enter := func() *Usage {
		t.Helper()
		u, err := p.Enter(key, from, 1)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	open := func(u *Usage) func() {
		t.Helper()
		closed, err := u.Open()
		if err != nil {
			t.Fatal(err)
		}
		return closed
	}
	one := enter()
	counted(2)
	first := open(one)
	counted(2)
	second := open(one)
	counted(3)
	second()
	counted(2)
	other := enter()
	counted(4)
	other.Settle()
	other.Settle()
	counted(3)
	var more []func()
	for len(more) < 2 {
		more = append(more, open(other))
	}
	counted(5)
	if _, err := other.Open(); !errors.Is(err, ErrDescriptors) {
		t.Errorf("one more than half of what strangers may have: got %v, want %v", err, ErrDescriptors)
	}
	other.Leave()
	counted(4)
	one.Leave()
	counted(3)
	for _, closed := range append(more, first) {
		closed()
	}
	counted(0)
	if len(p.byKey) != 0 {
		t.Errorf("%d pods are left, want none", len(p.byKey))
	}
	if closed, err := (*Usage)(nil).Open(); err != nil {
		t.Error(err)
	} else {
		closed()
	}
}

// TestLeaveGivesAllBack: nothing is left of connections that have ended.
func TestLeaveGivesAllBack(t *testing.T) {
	p := &Pods{MaxConns: 100, Descriptors: 1000, MaxBuffered: 100, Memory: 100}
	var all []*Usage
	for i := range 10 {
		u, err := p.Enter(inbound, stranger(i), 1)
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if err := u.Move(peer(i)); err != nil {
				t.Fatal(err)
			}
		}
		var c Charge
		c.Set(10, u)
		defer c.Set(0, u)
		all = append(all, u)
	}
	for used := range p.All() {
		want := Used{Key: inbound, Weight: 100, Connections: 10, Descriptors: 20, Sources: 10, Bytes: 100}
		if used != want {
			t.Errorf("got %+v, want %+v", used, want)
		}
	}
	for _, u := range all {
		u.Leave()
	}
	if p.descriptors.used != 0 || p.strangers.used != 0 || len(p.byKey)+len(p.descriptors.bySource)+len(p.strangers.bySource) != 0 {
		t.Errorf("left: %+v, %+v, %d pods", p.descriptors, p.strangers, len(p.byKey))
	}
}

// TestBytesAreShared: a source with little waiting goes on while another one of its pod, or
// another pod, has as much as it may; what begins later is refused first, and what is under
// way is ended next.
func TestBytesAreShared(t *testing.T) {
	const mib = 1 << 20
	p := &Pods{MaxConns: 100, MaxBuffered: 100 * mib, Memory: 600 * mib}
	enter := func(key Key, from Source) *Usage {
		u, err := p.Enter(key, from, 1)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	greedy, quiet := enter(inbound, peer(1)), enter(inbound, peer(2))
	other := enter(Key{UID: "b", Direction: mesh.Outbound}, PodSource("b"))
	var held Charge
	for _, test := range []struct {
		mib             int
		over, exhausted bool
	}{{100, false, false}, {101, true, false}, {160, true, false}, {161, true, true}, {0, false, false}} {
		held.Set(test.mib*mib, greedy)
		if over, exhausted := greedy.OverLimit(), greedy.Exhausted(); over != test.over || exhausted != test.exhausted {
			t.Errorf("with %d MiB: over %v, exhausted %v, want %v and %v", test.mib, over, exhausted, test.over, test.exhausted)
		}
		if quiet.OverLimit() || quiet.Exhausted() || other.OverLimit() {
			t.Errorf("with %d MiB of another source: over limit %v, exhausted %v, another pod %v, want none", test.mib, quiet.OverLimit(), quiet.Exhausted(), other.OverLimit())
		}
	}
	p.Memory = 300 * mib
	held.Set(99*mib, greedy)
	var more Charge
	more.Set(95*mib, other)
	if third := enter(Key{UID: "c", Direction: mesh.Outbound}, PodSource("c")); third.OverLimit() {
		t.Error("a third pod finds no room")
	}
	if !(*Usage)(nil).MayWait() || (*Usage)(nil).Exhausted() {
		t.Error("a nil Usage has limits")
	}
}

// BenchmarkEnter is what the limits cost a connection whose request finds a pooled connection to
// its endpoint, beside another connection of the client.
func BenchmarkEnter(b *testing.B) {
	p := &Pods{MaxConns: 1000, Descriptors: 10_000}
	key, from := Key{UID: "1b4e28ba-2fa1-11d2-883f-0016d3cca427"}, PodSource("1b4e28ba-2fa1-11d2-883f-0016d3cca427")
	if _, err := p.Enter(key, from, 1); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		u, err := p.Enter(key, from, 1)
		if err != nil {
			b.Fatal(err)
		}
		u.Settle()
		u.Leave()
	}
}
