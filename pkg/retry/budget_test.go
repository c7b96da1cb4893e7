package retry

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

func budget(t testing.TB, b mesh.RetryBudget) *Budget {
	t.Helper()
	budget, err := NewBudget(b)
	if err != nil {
		t.Fatal(err)
	}
	return budget
}

// retries returns how many of tries retries the budget allows at now.
func retries(b *Budget, now time.Duration, tries int) (given int) {
	for range tries {
		if b.Retry(now) {
			given++
		}
	}
	return given
}

func TestBudgetOfPercent(t *testing.T) {
	b := budget(t, mesh.RetryBudget{Percent: 20, Interval: 10 * time.Second})
	now := time.Hour
	if b.Retry(now) {
		t.Error("a retry before any request: allowed, want refused")
	}
	for range 800 {
		now += 10 * time.Millisecond
		b.Request(now)
	}
	// 800 requests and 200 retries: a fifth of the 1000.
	if given := retries(b, now, 1000); given != 200 {
		t.Errorf("%d retries for 800 requests, want 200", given)
	}
	if b.Retry(now) {
		t.Error("a retry above the budget: allowed, want refused")
	}
	if b.Retry(now + 11*time.Second) {
		t.Error("a retry after the interval of the requests: allowed, want refused")
	}
	now += 11 * time.Second
	for range 4 {
		b.Request(now)
	}
	if given := retries(b, now, 10); given != 1 {
		t.Errorf("%d retries for 4 requests, want 1: retries before the interval must not count either", given)
	}
}

func TestBudgetMinimum(t *testing.T) {
	b := budget(t, mesh.DefaultRetryBudget)
	now := time.Hour
	if given := retries(b, now, 100); given != 10 {
		t.Errorf("%d retries without traffic, want the minimum of 10", given)
	}
	if given := retries(b, now+time.Second, 100); given != 10 {
		t.Errorf("%d retries a second later, want 10", given)
	}
	// The larger of minimum and share, not their sum.
	b = budget(t, mesh.RetryBudget{Percent: 20, Interval: 10 * time.Second, MinRetries: 10, MinInterval: time.Second})
	for range 80 {
		b.Request(now)
	}
	if given := retries(b, now, 100); given != 20 {
		t.Errorf("%d retries for 80 requests with a minimum of 10, want 20", given)
	}
}

func TestBudgetEnds(t *testing.T) {
	none := budget(t, mesh.RetryBudget{Percent: 0, Interval: time.Second})
	all := budget(t, mesh.RetryBudget{Percent: 100, Interval: time.Second})
	for range 1000 {
		none.Request(0)
		all.Request(0)
	}
	if given := retries(none, 0, 100); given != 0 {
		t.Errorf("%d retries at 0 percent, want 0", given)
	}
	if given := retries(all, 0, 5000); given != 5000 {
		t.Errorf("%d of 5000 retries at 100 percent, want all", given)
	}
}

// TestBudgetHolds checks that, under any traffic and in any interval, retries
// stay within their share. An interval is measured in whole slots.
func TestBudgetHolds(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 50 {
		percent := 1 + random.IntN(60)
		b := budget(t, mesh.RetryBudget{Percent: percent, Interval: time.Second})
		type event struct {
			at    time.Duration
			retry bool
		}
		var events []event
		now := time.Duration(0)
		for range 3000 {
			now += time.Duration(random.Int64N(int64(5 * time.Millisecond)))
			if random.IntN(3) > 0 {
				b.Request(now)
				events = append(events, event{now, false})
			} else if b.Retry(now) {
				events = append(events, event{now, true})
			}
		}
		for i, last := range events {
			if !last.retry {
				continue
			}
			// What the budget had counted when it allowed this retry.
			from := last.at/(100*time.Millisecond)*(100*time.Millisecond) - 900*time.Millisecond
			total, given := 0, 0
			for _, e := range events[:i+1] {
				if e.at >= from {
					total++
					if e.retry {
						given++
					}
				}
			}
			if given*100 > percent*total {
				t.Fatalf("%d retries among %d requests at %v, want at most %d %%", given, total, last.at, percent)
			}
		}
	}
}

func TestBudgetConcurrently(t *testing.T) {
	b := budget(t, mesh.RetryBudget{Percent: 50, Interval: 10 * time.Second})
	for range 1000 {
		b.Request(0)
	}
	var given atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { given.Add(int64(retries(b, 0, 1000))) })
	}
	wg.Wait()
	if given.Load() > 1000 || given.Load() < 900 {
		t.Errorf("%d retries for 1000 requests, want 900 to 1000", given.Load())
	}
}

func TestRefusedBudgets(t *testing.T) {
	for name, b := range map[string]mesh.RetryBudget{
		"percent":         {Percent: 101, Interval: time.Second},
		"negative":        {Percent: -1, Interval: time.Second},
		"no interval":     {Percent: 20},
		"long interval":   {Percent: 20, Interval: 2 * time.Hour},
		"no min interval": {Percent: 20, Interval: time.Second, MinRetries: 10},
	} {
		if _, err := NewBudget(b); err == nil {
			t.Errorf("%s: NewBudget(%+v): got no error, want one", name, b)
		}
	}
}

func TestBudgetAllocations(t *testing.T) {
	b := budget(t, mesh.DefaultRetryBudget)
	now := time.Duration(0)
	if n := testing.AllocsPerRun(1000, func() { now += time.Millisecond; b.Request(now); b.Retry(now) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkBudgetRequest(b *testing.B) {
	budget := budget(b, mesh.DefaultRetryBudget)
	b.RunParallel(func(p *testing.PB) {
		now := time.Duration(0)
		for p.Next() {
			now += 1000
			budget.Request(now)
		}
	})
}
