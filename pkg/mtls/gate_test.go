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

// entrances has handshakes wait at a gate and knows in which order they began.
type entrances struct {
	t    *testing.T
	gate *Gate
	mu   sync.Mutex
	log  []string
	busy int
	wg   sync.WaitGroup
}

// enter has n handshakes of a source come, one after the other, each of which
// computes for so long.
func (e *entrances) enter(name string, from netip.Addr, own bool, n int, for_ time.Duration) {
	for range n {
		e.wg.Go(func() {
			turn, err := e.gate.Enter(context.Background(), from, own)
			if err != nil {
				if !errors.Is(err, ErrBusy) {
					e.t.Error(err)
				}
				e.mu.Lock()
				e.busy++
				e.mu.Unlock()
				return
			}
			e.mu.Lock()
			e.log = append(e.log, name)
			e.mu.Unlock()
			time.Sleep(for_)
			turn.Leave(false)
		})
		synctest.Wait()
	}
}

func (e *entrances) order() string {
	e.wg.Wait()
	if s := e.gate.Stats(); s.Running != 0 || s.Waiting != 0 || s.Under != 0 || len(e.gate.sources) != 0 {
		e.t.Errorf("left behind: %+v, %d sources", s, len(e.gate.sources))
	}
	return strings.Join(e.log, " ")
}

// prove has a source prove an identity.
func prove(t *testing.T, g *Gate, from netip.Addr) {
	t.Helper()
	turn, err := g.Enter(t.Context(), from, false)
	if err != nil {
		t.Fatal(err)
	}
	turn.Leave(true)
}

// Slots go round by sources, however many handshakes one has.
func TestGateIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, own := range []bool{false, true} {
			e := &entrances{t: t, gate: NewGate(GateOptions{Slots: 1})}
			e.enter("a", source(1), own, 5, time.Millisecond)
			e.enter("b", source(2), own, 2, time.Millisecond)
			e.enter("c", source(3), own, 2, time.Millisecond)
			if diff := cmp.Diff("a a b c a b c a a", e.order()); diff != "" {
				t.Error(diff)
			}
		}
	})
}

// Sources that have proved an identity come first, and own handshakes; but not so
// that the others get nothing.
func TestGateKnownFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &entrances{t: t, gate: NewGate(GateOptions{Slots: 1})}
		prove(t, e.gate, source(9))
		e.enter("-", source(8), false, 1, time.Millisecond) // has the slot
		e.enter("x", source(1), false, 3, time.Millisecond)
		e.enter("known", source(9), false, 5, time.Millisecond)
		e.enter("own", source(2), true, 3, time.Millisecond)
		if diff := cmp.Diff("- known own known x own known own x known known x", e.order()); diff != "" {
			t.Error(diff)
		}
		// It is not known for ever.
		time.Sleep(provedFor)
		e.log = nil
		e.enter("-", source(8), false, 1, time.Millisecond)
		e.enter("x", source(1), false, 1, time.Millisecond)
		e.enter("was known", source(9), false, 1, time.Millisecond)
		if diff := cmp.Diff("- x was known", e.order()); diff != "" {
			t.Error(diff)
		}
	})
}

// One that proves itself while others of its source wait takes them along.
func TestGateProofCountsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &entrances{t: t, gate: NewGate(GateOptions{Slots: 1, Most: 4})}
		first, err := e.gate.Enter(t.Context(), source(1), false)
		if err != nil {
			t.Fatal(err)
		}
		e.enter("stranger", source(2), false, 1, time.Millisecond)
		e.enter("same", source(1), false, 2, time.Millisecond)
		first.Leave(true)
		if diff := cmp.Diff("same same stranger", e.order()); diff != "" {
			t.Error(diff)
		}
		if e.gate.classes[known].under != 0 || e.gate.classes[stranger].under != 0 {
			t.Errorf("counted: %d known, %d strangers", e.gate.classes[known].under, e.gate.classes[stranger].under)
		}
	})
}

// Never do more compute than there are slots, nor more strangers than their share,
// whatever comes and goes.
func TestGateIsNeverOverrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Slots: 4, Strangers: 2, Patience: 50 * time.Millisecond})
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
					turn.Rest()
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
			t.Errorf("%d at once, %d of them strangers; %d got in", most, mostStrangers, done)
		}
		if s := g.Stats(); s.Running+s.Waiting+s.Under != 0 || len(g.sources) != 0 || s.Refused == 0 {
			t.Errorf("%+v, %d sources", s, len(g.sources))
		}
	})
}

// A peer that stalls keeps nobody from computing.
func TestGateStallingPeersHoldNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Slots: 1, Strangers: 1})
		var stalled []*Turn
		for i := range 50 {
			turn, err := g.Enter(t.Context(), source(i), false)
			if err != nil {
				t.Fatal(err)
			}
			turn.Rest()
			stalled = append(stalled, turn)
		}
		began := time.Now()
		turn, err := g.Enter(t.Context(), source(99), false)
		if err != nil || time.Since(began) != 0 {
			t.Errorf("waited %s, %v", time.Since(began), err)
		}
		// Those that go on have turns, before others of their source begin.
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
		if s := g.Stats(); s.Running != 1 || s.Waiting != 2 || s.Under != 52 {
			t.Errorf("%+v", s)
		}
		turn.Leave(false)
		wg.Wait()
		if diff := cmp.Diff([]string{"resumed", "new"}, order); diff != "" {
			t.Error(diff)
		}
		for _, turn := range stalled[1:] {
			turn.Resume()
			turn.Leave(false)
		}
		if s := g.Stats(); s.Under != 0 || s.Running != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Whoever comes from outside over a bound is refused at once, and who would wait
// too long when that is clear. Own handshakes wait as long as they like.
func TestGateBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Slots: 1, Most: 20, MostOfSource: 8, MostOfStranger: 3, Patience: time.Second})
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
			t.Errorf("the refusals took %s", time.Since(began))
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
			t.Error(diff)
		}
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if s := g.Stats(); s.Waiting != 100 || s.Refused != 22+28 {
			t.Errorf("after the patience: %+v", s)
		}
		holder.Leave(false)
		for _, e := range all {
			e.wg.Wait()
		}
		if got := len(all["own"].log); got != 100 {
			t.Errorf("%d own handshakes got in", got)
		}
		if s := g.Stats(); s.Under != 0 || len(g.sources) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// One that is cancelled leaves no trace, also when its slot has just been given.
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
			time.Sleep(time.Second) // both at once
			holder.Leave(false)
			wg.Wait()
			if s := g.Stats(); s.Running+s.Waiting+s.Under != 0 || len(g.sources) != 0 || results.Load() != 3 || s.Refused != 0 {
				t.Fatalf("%+v, %d sources", s, len(g.sources))
			}
			if turn, err := g.Enter(t.Context(), source(5), false); err != nil {
				t.Fatal(err)
			} else {
				turn.Leave(false)
			}
		}
	})
}

// The table of those who have proved an identity is bounded.
func TestGateProvedIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(GateOptions{Slots: 1})
		for i := range 2 * provedMost {
			prove(t, g, source(i))
		}
		if n := len(g.proved); n != provedMost {
			t.Errorf("%d are remembered", n)
		}
		if _, last := g.proved[source(2*provedMost-1)]; !last {
			t.Error("the newest is not")
		}
		if !slices.Equal([]int{0, 0}, g.running[:]) {
			t.Errorf("running: %v", g.running)
		}
	})
}

func BenchmarkGate(b *testing.B) {
	g := NewGate(GateOptions{Slots: 1, Patience: time.Second})
	b.ReportAllocs()
	for b.Loop() {
		turn, _ := g.Enter(b.Context(), source(1), false)
		turn.Rest()
		turn.Resume()
		turn.Leave(true)
	}
}
