package balance

import (
	"container/heap"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const ms = time.Millisecond

func TestPeakEWMA(t *testing.T) {
	now := time.Hour
	m := NewPeakEWMA(30*ms, 10*time.Second, now)
	near := func(what string, want time.Duration) {
		t.Helper()
		got := time.Duration(m.Cost(now))
		if got < want*98/100 || got > want*102/100 {
			t.Errorf("%s: cost %v, want about %v", what, got, want)
		}
	}
	near("at first", 30*ms)
	m.Begin(now)
	near("one in flight", 60*ms)
	m.End(now, 200*ms)
	near("a peak counts at once", 200*ms)
	m.Begin(now)
	m.End(now, 10*ms)
	near("one good answer does not undo it", 200*ms)
	now += 10 * time.Second
	near("unused, it is forgotten", 73*ms+500*time.Microsecond)
	m.Begin(now)
	m.End(now, 10*ms)
	near("news and what is left of the past", 80*ms)
	for range 1000 {
		now += 100 * ms
		m.Begin(now)
		m.End(now, 10*ms)
	}
	near("steady", 10*ms)
	m.Begin(now)
	m.End(now, -1)
	near("a failure says nothing of latency", 10*ms)
	m.Begin(now - time.Minute)
	m.End(now-time.Minute, 5*ms)
	near("a report that comes late", 10*ms)
	now += 24 * time.Hour
	near("forgotten", 10*ms)
	m.Begin(now)
	near("but busy", 20*ms)
}

// TestPeakEWMAWraps: the 32 bits of the tick overflow after 52 days.
func TestPeakEWMAWraps(t *testing.T) {
	now := tick<<32 - 50*ms
	m := NewPeakEWMA(ms, 10*time.Second, now)
	m.Begin(now)
	m.End(now, 100*ms)
	now += 100 * ms
	if got := time.Duration(m.Cost(now)); got < 95*ms || got > 100*ms {
		t.Errorf("cost %v after the ticks wrapped, want about 99ms", got)
	}
}

func TestPeakEWMAConcurrently(t *testing.T) {
	m := NewPeakEWMA(ms, time.Second, 0)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 5000 {
				now := time.Duration(n) * ms
				m.Begin(now)
				if m.Cost(now) <= 0 {
					t.Error("a cost below zero")
				}
				m.End(now, time.Duration(i+1)*10*ms)
			}
		})
	}
	wg.Wait()
	if n := m.pending.Load(); n != 0 {
		t.Errorf("%d requests in flight after all ended, want 0", n)
	}
	if got := time.Duration(m.Cost(5 * time.Second)); got < 10*ms || got > 50*ms {
		t.Errorf("cost %v of latencies from 10 to 40 ms, want 10 to 50 ms", got)
	}
}

// completion is a request in the simulation below.
type completion struct {
	at, latency time.Duration
	endpoint    int
}

type completions []completion

func (c completions) Len() int           { return len(c) }
func (c completions) Less(i, j int) bool { return c[i].at < c[j].at }
func (c completions) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *completions) Push(x any)        { *c = append(*c, x.(completion)) }
func (c *completions) Pop() any {
	last := (*c)[len(*c)-1]
	*c = (*c)[:len(*c)-1]
	return last
}

// inFlight counts requests in flight. The peak EWMA is compared with it.
type inFlight struct{ n atomic.Int64 }

func (m *inFlight) Begin()      { m.n.Add(1) }
func (m *inFlight) End()        { m.n.Add(-1) }
func (m *inFlight) Cost() int64 { return m.n.Load() }

// simulate sends requests that arrive at random to endpoints with fixed
// latencies, and returns the mean latency and the requests that each one got.
func simulate(latencies []time.Duration, pick func(now time.Duration) int, end func(now time.Duration, c completion)) (mean time.Duration, share []int) {
	random := rand.New(rand.NewPCG(7, 8))
	share = make([]int, len(latencies))
	const requests = 20_000
	var (
		open  completions
		total time.Duration
		now   = time.Second
	)
	for range requests {
		now += time.Duration(random.ExpFloat64() * float64(ms))
		for len(open) > 0 && open[0].at <= now {
			c := heap.Pop(&open).(completion)
			end(c.at, c)
		}
		i := pick(now)
		latency := time.Duration(float64(latencies[i]) * (0.5 + random.Float64()))
		share[i]++
		total += latency
		heap.Push(&open, completion{now + latency, latency, i})
	}
	return total / requests, share
}

// TestPeakEWMAAvoidsTheSlow: among fast endpoints and one that is twenty times slower,
// the latency shows the slow one much earlier than the requests in flight.
func TestPeakEWMAAvoidsTheSlow(t *testing.T) {
	latencies := []time.Duration{2 * ms, 2 * ms, 2 * ms, 2 * ms, 40 * ms}
	random := rand.New(rand.NewPCG(9, 10))
	p2c := func(cost func(int) int64) int {
		i, j := random.IntN(5), random.IntN(4)
		if j >= i {
			j++
		}
		if cost(j) < cost(i) {
			return j
		}
		return i
	}
	counters := make([]inFlight, 5)
	byCount, _ := simulate(latencies, func(time.Duration) int {
		i := p2c(func(i int) int64 { return counters[i].Cost() })
		counters[i].Begin()
		return i
	}, func(_ time.Duration, c completion) { counters[c.endpoint].End() })

	var meters []*PeakEWMA
	for range 5 {
		meters = append(meters, NewPeakEWMA(30*ms, 10*time.Second, 0))
	}
	byLatency, share := simulate(latencies, func(now time.Duration) int {
		i := p2c(func(i int) int64 { return meters[i].Cost(now) })
		meters[i].Begin(now)
		return i
	}, func(now time.Duration, c completion) { meters[c.endpoint].End(now, c.latency) })

	t.Logf("mean latency %v by requests in flight, %v by peak EWMA; shares %v", byCount, byLatency, share)
	if best := 2 * ms; byLatency > best*115/100 || byCount < best*150/100 {
		t.Errorf("mean latency %v, and %v by the number in flight: want hardly above the quick ones' %v", byLatency, byCount, best)
	}
	if share[4] == 0 {
		t.Error("the slow endpoint was never tried again")
	}
	for i, n := range share[:4] {
		if n < 3500 || n > 6500 {
			t.Errorf("endpoint %d got %d of 20000, want 3500 to 6500, as its equals", i, n)
		}
	}
}

func TestPeakEWMAAllocations(t *testing.T) {
	m := NewPeakEWMA(ms, time.Second, 0)
	now := time.Duration(0)
	if n := testing.AllocsPerRun(1000, func() { now += ms; m.Begin(now); m.Cost(now); m.End(now, ms) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkPeakEWMA(b *testing.B) {
	m := NewPeakEWMA(ms, time.Second, 0)
	now := time.Duration(0)
	for b.Loop() {
		now += 10 * time.Microsecond
		m.Begin(now)
		m.Cost(now)
		m.Cost(now)
		m.End(now, ms)
	}
}
