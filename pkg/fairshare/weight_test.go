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
	takeTurns(t, s, holder, contender{light, turns, 1}, contender{heavy, turns, ratio})
}

// contender is an account whose tasks wait. Its weight is ratio times the other one's.
type contender struct {
	*Account
	tasks int
	ratio time.Duration
}

// takeTurns has the tasks of two accounts wait for the only slot, which holder gives away. It
// fails if a turn goes to the account that has used more for its weight, while both wait.
// How many turns each gets is not judged: a turn on a busy machine may take as long as many.
func takeTurns(t *testing.T, s *Scheduler, holder *Task, one, other contender) {
	t.Helper()
	// A turn has the times that the accounts have used when it begins, for their weights. No
	// two turns overlap, because there is one slot.
	type turn struct {
		account        *Account
		ofOne, ofOther time.Duration
	}
	used := func(c contender) time.Duration { return c.Used().Processor / c.ratio }
	var order []turn
	var tasks sync.WaitGroup
	for _, c := range []contender{one, other} {
		for range c.tasks {
			tasks.Go(func() {
				var task Task
				task.Charge(c.Account)
				task.Resume()
				order = append(order, turn{c.Account, used(one), used(other)})
				c.used.Add(int64(50 * time.Microsecond)) // beside what it really takes
				task.Pause()
			})
		}
	}
	for waiting := 0; waiting < one.tasks+other.tasks; _, waiting = s.Busy() {
		runtime.Gosched()
	}
	holder.Pause()
	tasks.Wait()

	left := map[*Account]int{one.Account: one.tasks, other.Account: other.tasks}
	for i, at := range order {
		if left[one.Account] == 0 || left[other.Account] == 0 {
			break
		}
		left[at.account]--
		// Each settlement rounds down to a nanosecond.
		rounding := time.Duration(i + 1)
		if at.account == one.Account && at.ofOne > at.ofOther+rounding || at.account == other.Account && at.ofOther > at.ofOne+rounding {
			t.Fatalf("turn %d went to the account (the first: %t) that has used more for its weight: the first %v, the second %v",
				i, at.account == one.Account, at.ofOne, at.ofOther)
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
