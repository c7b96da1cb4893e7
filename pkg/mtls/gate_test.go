package mtls

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func source(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }

// entrances sends handshakes through a gate and records the order in which they
// began.
type entrances struct {
	t    *testing.T
	gate *Gate
	mu   sync.Mutex
	log  []string
	busy int
	wg   sync.WaitGroup
}

// enter starts n handshakes of a source, one after the other. Each of them
// computes for the given time.
func (e *entrances) enter(name string, from netip.Addr, own bool, n int, compute time.Duration) {
	for range n {
		e.wg.Go(func() {
			turn, err := e.gate.Enter(context.Background(), from, own)
			if err != nil {
				if !errors.Is(err, ErrBusy) {
					e.t.Errorf("Enter: got %v, want no error or ErrBusy", err)
				}
				e.mu.Lock()
				e.busy++
				e.mu.Unlock()
				return
			}
			e.mu.Lock()
			e.log = append(e.log, name)
			e.mu.Unlock()
			time.Sleep(compute)
			turn.Leave(false)
		})
		synctest.Wait()
	}
}

func (e *entrances) order() string {
	e.wg.Wait()
	if s := e.gate.Stats(); s.Running != 0 || s.Waiting != 0 || s.Active != 0 || len(e.gate.sources) != 0 {
		e.t.Errorf("at the end: %+v and %d sources, want none active", s, len(e.gate.sources))
	}
	return strings.Join(e.log, " ")
}

// prove makes a source known: it makes a handshake that proves an identity.
func prove(t *testing.T, g *Gate, from netip.Addr) {
	t.Helper()
	turn, err := g.Enter(t.Context(), from, false)
	if err != nil {
		t.Fatal(err)
	}
	turn.Leave(true)
}

// TestGateIsFair checks that sources take turns, however many handshakes each
// has.
func TestGateIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, own := range []bool{false, true} {
			e := &entrances{t: t, gate: NewGate(GateOptions{Slots: 1})}
			e.enter("a", source(1), own, 5, time.Millisecond)
			e.enter("b", source(2), own, 2, time.Millisecond)
			e.enter("c", source(3), own, 2, time.Millisecond)
			if diff := cmp.Diff("a a b c a b c a a", e.order()); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
		}
	})
}

// TestGateKnownFirst checks that known sources and own handshakes go first, but
// that strangers still get slots.
func TestGateKnownFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &entrances{t: t, gate: NewGate(GateOptions{Slots: 1})}
		prove(t, e.gate, source(9))
		e.enter("-", source(8), false, 1, time.Millisecond) // has the slot
		e.enter("x", source(1), false, 3, time.Millisecond)
		e.enter("known", source(9), false, 5, time.Millisecond)
		e.enter("own", source(2), true, 3, time.Millisecond)
		if diff := cmp.Diff("- known own known x own known own x known known x", e.order()); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		// After provedFor the source is a stranger again.
		time.Sleep(provedFor)
		e.log = nil
		e.enter("-", source(8), false, 1, time.Millisecond)
		e.enter("x", source(1), false, 1, time.Millisecond)
		e.enter("was known", source(9), false, 1, time.Millisecond)
		if diff := cmp.Diff("- x was known", e.order()); diff != "" {
			t.Errorf("order after %s (-want +got):\n%s", provedFor, diff)
		}
	})
}

// TestGateProofCountsAtOnce checks that a proof of identity also moves the waiting
// handshakes of the same source to the known ones.
func TestGateProofCountsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &entrances{t: t, gate: NewGate(GateOptions{Slots: 1, MaxActive: 4})}
		first, err := e.gate.Enter(t.Context(), source(1), false)
		if err != nil {
			t.Fatal(err)
		}
		e.enter("stranger", source(2), false, 1, time.Millisecond)
		e.enter("same", source(1), false, 2, time.Millisecond)
		first.Leave(true)
		if diff := cmp.Diff("same same stranger", e.order()); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		if e.gate.classes[known].active != 0 || e.gate.classes[stranger].active != 0 {
			t.Errorf("active: %d known, %d strangers; want 0 of both", e.gate.classes[known].active, e.gate.classes[stranger].active)
		}
	})
}

// TestGateIsNeverOverrun checks that no more handshakes compute than there are
// slots, and no more strangers than their share.
func TestGateIsNeverOverrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Slots: 4, StrangerSlots: 2, MaxWait: 50 * time.Millisecond})
		prove(t, g, source(0))
		var mu sync.Mutex
		var running, strangers, most, mostStrangers, done int
		compute := func(isStranger bool, n int) {
			mu.Lock()
			defer mu.Unlock()
			running += n
			if isStranger {
				strangers += n
			}
			most, mostStrangers = max(most, running), max(mostStrangers, strangers)
		}
		var wg sync.WaitGroup
		for i := range 500 {
			wg.Go(func() {
				from := source(i % 7)
				isStranger := i%7 != 0
				time.Sleep(time.Duration(i%50) * time.Millisecond)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i%200)*time.Millisecond)
				defer cancel()
				turn, err := g.Enter(ctx, from, false)
				if err != nil {
					return
				}
				for range i % 4 {
					compute(isStranger, 1)
					time.Sleep(time.Millisecond)
					compute(isStranger, -1)
					turn.Pause()
					time.Sleep(time.Duration(i%9) * time.Millisecond)
					turn.Resume()
				}
				turn.Leave(false)
				mu.Lock()
				done++
				mu.Unlock()
			})
		}
		wg.Wait()
		if most != 4 || mostStrangers != 2 || done < 100 {
			t.Errorf("at most %d computed at once and %d strangers, want 4 and 2; %d were admitted, want 100 or more", most, mostStrangers, done)
		}
		if s := g.Stats(); s.Running+s.Waiting+s.Active != 0 || len(g.sources) != 0 || s.Refused == 0 {
			t.Errorf("at the end: %+v and %d sources, want none active and some refused", s, len(g.sources))
		}
	})
}

// TestGateStallingPeersHoldNoSlot checks that a peer which stalls does not keep
// other handshakes from computing.
func TestGateStallingPeersHoldNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Slots: 1, StrangerSlots: 1})
		var stalled []*Turn
		for i := range 50 {
			turn, err := g.Enter(t.Context(), source(i), false)
			if err != nil {
				t.Fatal(err)
			}
			turn.Pause()
			stalled = append(stalled, turn)
		}
		began := time.Now()
		turn, err := g.Enter(t.Context(), source(99), false)
		if err != nil || time.Since(began) != 0 {
			t.Errorf("waited %s, %v; want no wait and no error", time.Since(began), err)
		}
		// A resumed handshake goes before a new one of its source.
		var order []string
		var wg sync.WaitGroup
		wg.Go(func() {
			next, err := g.Enter(t.Context(), source(0), false)
			if err != nil {
				t.Error(err)
				return
			}
			order = append(order, "new")
			next.Leave(false)
		})
		synctest.Wait()
		wg.Go(func() {
			stalled[0].Resume()
			order = append(order, "resumed")
			stalled[0].Leave(false)
		})
		synctest.Wait()
		if s := g.Stats(); s.Running != 1 || s.Waiting != 2 || s.Active != 52 {
			t.Errorf("got %+v, want 1 running and 2 waiting of 52", s)
		}
		turn.Leave(false)
		wg.Wait()
		if diff := cmp.Diff([]string{"resumed", "new"}, order); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		for _, turn := range stalled[1:] {
			turn.Resume()
			turn.Leave(false)
		}
		if s := g.Stats(); s.Active != 0 || s.Running != 0 {
			t.Errorf("at the end: %+v, want none active", s)
		}
	})
}

// TestGateBounds checks that a handshake from outside is refused at once above a
// limit and after MaxWait otherwise, and that own handshakes wait without limit.
func TestGateBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Slots: 1, MaxActive: 20, MaxPerSource: 8, MaxPerStranger: 3, MaxWait: time.Second})
		prove(t, g, source(9))
		holder, err := g.Enter(t.Context(), source(7), true)
		if err != nil {
			t.Fatal(err)
		}
		come := func(from netip.Addr, own bool, n int) *entrances {
			e := &entrances{t: t, gate: g}
			e.enter("x", from, own, n, 0)
			return e
		}
		began := time.Now()
		all := map[string]*entrances{
			"one stranger": come(source(1), false, 10), // 3 wait
			"known":        come(source(9), false, 10), // 8 wait
			"own":          come(source(7), true, 100),
		}
		for i := range 10 { // 3 each, 17 in all
			all[fmt.Sprintf("stranger %d", i)] = come(source(100+i), false, 3)
		}
		if time.Since(began) != 0 {
			t.Errorf("the refusals took %s, want no time", time.Since(began))
		}
		refused := map[string]int{}
		for name, e := range all {
			e.mu.Lock()
			if e.busy > 0 {
				refused[name] = e.busy
			}
			e.mu.Unlock()
		}
		if diff := cmp.Diff(map[string]int{"one stranger": 7, "known": 2, "stranger 5": 1, "stranger 6": 3, "stranger 7": 3, "stranger 8": 3, "stranger 9": 3}, refused); diff != "" {
			t.Errorf("refused by source (-want +got):\n%s", diff)
		}
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if s := g.Stats(); s.Waiting != 100 || s.Refused != 22+28 {
			t.Errorf("after MaxWait: %+v, want 100 waiting and 50 refused", s)
		}
		holder.Leave(false)
		for _, e := range all {
			e.wg.Wait()
		}
		if got := len(all["own"].log); got != 100 {
			t.Errorf("%d own handshakes were admitted, want 100", got)
		}
		if s := g.Stats(); s.Active != 0 || len(g.sources) != 0 {
			t.Errorf("at the end: %+v and %d sources, want none active", s, len(g.sources))
		}
	})
}

// TestGateCancelled checks that a cancelled handshake leaves nothing behind, even
// if it was given a slot at the same moment.
func TestGateCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			g := NewGate(GateOptions{Slots: 1})
			holder, err := g.Enter(t.Context(), source(1), false)
			if err != nil {
				t.Fatal(err)
			}
			var results atomic.Int64
			var wg sync.WaitGroup
			for i := range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				wg.Go(func() {
					defer cancel()
					turn, err := g.Enter(ctx, source(i), false)
					if err == nil {
						turn.Leave(false)
					} else if !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					results.Add(1)
				})
				synctest.Wait()
			}
			time.Sleep(time.Second) // the deadline and the release come together
			holder.Leave(false)
			wg.Wait()
			if s := g.Stats(); s.Running+s.Waiting+s.Active != 0 || len(g.sources) != 0 || results.Load() != 3 || s.Refused != 0 {
				t.Fatalf("got %+v, %d sources and %d results; want none active, none refused and 3 results", s, len(g.sources), results.Load())
			}
			if turn, err := g.Enter(t.Context(), source(5), false); err != nil {
				t.Fatal(err)
			} else {
				turn.Leave(false)
			}
		}
	})
}

// TestGateProvedIsBounded checks that the table of sources that have proved an
// identity is bounded.
func TestGateProvedIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Slots: 1})
		for i := range 2 * provedMost {
			prove(t, g, source(i))
		}
		if n := len(g.proved); n != provedMost {
			t.Errorf("%d sources are remembered, want %d", n, provedMost)
		}
		if _, last := g.proved[source(2*provedMost-1)]; !last {
			t.Error("the newest source is not remembered, want it to be")
		}
		if !slices.Equal([]int{0, 0}, g.running[:]) {
			t.Errorf("running: %v, want none", g.running)
		}
	})
}

func BenchmarkGate(b *testing.B) {
	g := NewGate(GateOptions{Slots: 1, MaxWait: time.Second})
	b.ReportAllocs()
	for b.Loop() {
		turn, _ := g.Enter(b.Context(), source(1), false)
		turn.Pause()
		turn.Resume()
		turn.Leave(true)
	}
}

// TestComputed: a handshake has computed while it held a slot, and not while it waited for
// one or for its peer.
func TestComputed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := NewGate(GateOptions{Slots: 1})
		first, err := gate.Enter(t.Context(), source(1), true)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var second *Turn
		wg.Go(func() { // waits 5 ms for the slot, holds it for 7 ms
			if second, err = gate.Enter(t.Context(), source(2), true); err == nil {
				time.Sleep(7 * time.Millisecond)
				second.Leave(true)
			}
		})
		time.Sleep(5 * time.Millisecond)
		first.Pause()
		time.Sleep(time.Millisecond) // for the peer
		first.Resume()               // waits for the slot
		time.Sleep(2 * time.Millisecond)
		first.Leave(true)
		wg.Wait()
		if err != nil {
			t.Fatal(err)
		}
		got := []time.Duration{first.Computed(), second.Computed()}
		if diff := cmp.Diff([]time.Duration{7 * time.Millisecond, 7 * time.Millisecond}, got); diff != "" {
			t.Errorf("computed (-want +got):\n%s", diff)
		}
	})
}

// TestGateCountsStrangersByNetwork: a client that has a whole IPv6 network to choose its
// addresses from has no more than one address has, and takes turns as one, until an address
// has proved an identity. That makes no other address of the network known.
func TestGateCountsStrangersByNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perStranger, perSource = 3, 5
		g := NewGate(GateOptions{Slots: 100, MaxPerSource: perSource, MaxPerStranger: perStranger})
		at := func(network, host int) netip.Addr {
			return netip.MustParseAddr(fmt.Sprintf("2001:db8:0:%x::%x", network, host))
		}
		enter := func(from netip.Addr) (turns []*Turn) {
			for range 2 * perSource {
				turn, err := g.Enter(t.Context(), from, false)
				if errors.Is(err, ErrBusy) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				turns = append(turns, turn)
			}
			return turns
		}
		leave := func(turns []*Turn) {
			for _, turn := range turns {
				turn.Leave(false)
			}
		}
		var crowd []*Turn
		for host := range 10 {
			crowd = append(crowd, enter(at(1, host+1))...)
		}
		other := enter(at(2, 1))
		if len(crowd) != perStranger || len(other) != perStranger {
			t.Errorf("one network got %d turns at once and another %d, want %d each", len(crowd), len(other), perStranger)
		}
		leave(other)
		crowd[0].Leave(true) // of the first address
		leave(crowd[1:])
		if got := g.Stats(); got.Active != 0 || got.Running != 0 || len(g.sources) != 0 {
			t.Errorf("after all have left: %+v and %d sources, want none", got, len(g.sources))
		}
		proved, rest := enter(at(1, 1)), enter(at(1, 2))
		if len(proved) != perSource || len(rest) != perStranger {
			t.Errorf("the address with an identity got %d turns at once and the rest of its network %d, want %d and %d", len(proved), len(rest), perSource, perStranger)
		}
		leave(append(proved, rest...))
	})
}
