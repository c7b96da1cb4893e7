package fairshare

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestWeights: of two accounts that both have tasks waiting, the one goes first that has
// used less for its weight. So the times that they get differ from the ratio of their
// weights by one turn at most, however long each turn takes.
func TestWeights(t *testing.T) {
	const turns, ratio = 200, 4
	s, holder := held()
	light, heavy := s.Account(), s.Account()
	light.SetWeight(DefaultWeight)
	heavy.SetWeight(ratio * DefaultWeight)
	// used is the accounts' time at the begin of each turn. No two turns overlap, because
	// there is one slot.
	type turn struct {
		account     *Account
		light, used time.Duration // of the light account; of the heavy one, for its weight
	}
	var order []turn
	var tasks sync.WaitGroup
	for _, a := range []*Account{light, heavy} {
		for range turns {
			tasks.Go(func() {
				var task Task
				task.Charge(a)
				task.Resume()
				order = append(order, turn{a, light.Used().Processor, heavy.Used().Processor / ratio})
				a.used.Add(int64(50 * time.Microsecond)) // beside what it really takes
				task.Pause()
			})
		}
	}
	for waiting := 0; waiting < 2*turns; _, waiting = s.Busy() {
		runtime.Gosched()
	}
	holder.Pause()
	tasks.Wait()

	left := map[*Account]int{light: turns, heavy: turns}
	for i, at := range order {
		if left[light] == 0 || left[heavy] == 0 {
			break
		}
		left[at.account]--
		// Each settlement rounds down to a nanosecond.
		rounding := time.Duration(i + 1)
		if at.account == light && at.light > at.used+rounding || at.account == heavy && at.used > at.light+rounding {
			t.Fatalf("turn %d went to the account (light: %t) that has used more for its weight: light %v, heavy %v",
				i, at.account == light, at.light, at.used)
		}
	}
}

// TestWeightBounds: weights are brought into their bounds, and the default is between them.
func TestWeightBounds(t *testing.T) {
	s := New(2)
	for _, tt := range []struct{ set, want int }{
		{-1, MinWeight},
		{1, MinWeight},
		{MinWeight, MinWeight},
		{39, 39},
		{10_000, MaxWeight},
	} {
		a := s.Account()
		if got := a.Weight(); got != DefaultWeight {
			t.Errorf("before: got the weight %d, want %d", got, DefaultWeight)
		}
		a.SetWeight(tt.set)
		if got := a.Weight(); got != tt.want {
			t.Errorf("set to %d: got the weight %d, want %d", tt.set, got, tt.want)
		}
	}
	var none *Account
	none.SetWeight(7)
	if got := none.Weight(); got != DefaultWeight {
		t.Errorf("nil: got the weight %d, want %d", got, DefaultWeight)
	}
}
