package limit

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func rate(t testing.TB, count int, period time.Duration, burst int) Rate {
	t.Helper()
	r, err := NewRate(count, period, burst)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBurstThenRate(t *testing.T) {
	r := rate(t, 10, time.Second, 5)
	var b Bucket
	now := time.Hour
	for i := range 5 {
		if ok, _ := b.Take(now, r); !ok {
			t.Fatalf("event %d of a burst of 5: refused, want allowed", i)
		}
	}
	ok, wait := b.Take(now, r)
	if ok || wait != 100*time.Millisecond {
		t.Fatalf("after the burst: allowed %v, wait %v; want refused for 100ms", ok, wait)
	}
	if ok, _ := b.Take(now+wait-1, r); ok {
		t.Errorf("a nanosecond before the %v have passed: allowed, want refused", wait)
	}
	if ok, _ := b.Take(now+wait, r); !ok {
		t.Errorf("after waiting %v as told: refused, want allowed", wait)
	}
	if b.Idle(now + wait) {
		t.Error("right after an event: Idle() = true, want false")
	}
	if !b.Idle(now + time.Second) {
		t.Error("a second after the last event: Idle() = false, want true")
	}
}

// TestReturn: an event that was taken back leaves room for another one.
func TestReturn(t *testing.T) {
	r := rate(t, 10, time.Second, 1)
	var b Bucket
	now := time.Hour
	for range 3 {
		if ok, _ := b.Take(now, r); !ok {
			t.Fatal("after each event was returned: refused, want allowed")
		}
		b.Return(r)
	}
	if !b.Idle(now) {
		t.Error("all events were returned: Idle() = false, want true")
	}
}

// TestNeverMore checks that no window of time has more events than the burst and
// the rate allow together, whenever the events come.
func TestNeverMore(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		count, burst := 1+random.IntN(50), 1+random.IntN(20)
		r := rate(t, count, time.Second, burst)
		var b Bucket
		var allowed []time.Duration
		now := time.Duration(0)
		for range 500 {
			now += time.Duration(random.Int64N(int64(60 * time.Millisecond)))
			if ok, _ := b.Take(now, r); ok {
				allowed = append(allowed, now)
			}
		}
		for i := range allowed {
			for j := i; j < len(allowed); j++ {
				window := allowed[j] - allowed[i]
				if most := burst + int(window/r.every); j-i+1 > most {
					t.Fatalf("%d events in %v, want at most %d (%d/s, burst %d)", j-i+1, window, most, count, burst)
				}
			}
		}
		if len(allowed) < burst {
			t.Fatalf("%d events were allowed, want the burst of %d or more", len(allowed), burst)
		}
	}
}

func TestRefusedRates(t *testing.T) {
	for _, tc := range []struct {
		count  int
		period time.Duration
		burst  int
	}{
		{0, time.Second, 1},
		{-1, time.Second, 1},
		{1, 0, 1},
		{1, -time.Second, 1},
		{10, 9, 1},
		{1, time.Second, 0},
		{1, 24 * time.Hour, math.MaxInt32},
	} {
		if _, err := NewRate(tc.count, tc.period, tc.burst); err == nil {
			t.Errorf("NewRate(%d, %v, %d): got no error, want one", tc.count, tc.period, tc.burst)
		}
	}
}

func TestConcurrentTakes(t *testing.T) {
	r := rate(t, 1, time.Hour, 100)
	k := NewKeyed[int](r, 4)
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if ok, _ := k.Take(time.Second, 7); ok {
					taken.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if taken.Load() != 100 {
		t.Errorf("%d events, want the burst of 100", taken.Load())
	}
}

func TestKeysAreBounded(t *testing.T) {
	k := NewKeyed[int](rate(t, 10, time.Second, 1), 3)
	now := time.Minute
	for key := range 3 {
		if ok, _ := k.Take(now, key); !ok {
			t.Fatalf("key %d: refused, want allowed", key)
		}
	}
	if ok, _ := k.Take(now, 3); ok {
		t.Error("a fourth key while three are busy: allowed, want refused")
	}
	if ok, _ := k.Take(now, 1); ok {
		t.Error("a second event of key 1: allowed, want refused, as its burst is 1")
	}
	now += 100 * time.Millisecond
	if ok, _ := k.Take(now, 3); !ok {
		t.Error("a new key while the others are idle: refused, want allowed")
	}
	if k.Len() != 1 {
		t.Errorf("Len() = %d, want 1: the only busy key", k.Len())
	}
}

func TestAllocations(t *testing.T) {
	k := NewKeyed[string](rate(t, 10, time.Second, 1), 3)
	now := time.Duration(0)
	if n := testing.AllocsPerRun(1000, func() { now++; k.Take(now, "a") }); n != 0 {
		t.Errorf("%v allocations for a known key, want 0", n)
	}
}

func BenchmarkTake(b *testing.B) {
	k := NewKeyed[string](rate(b, 1000000, time.Second, 1000), 10)
	b.RunParallel(func(p *testing.PB) {
		now := time.Duration(0)
		for p.Next() {
			now += 1000
			k.Take(now, "spiffe://cluster.local/ns/shop/sa/web")
		}
	})
}
