package balance

import (
	"math"
	"sync/atomic"
	"time"
)

// PeakEWMA measures an endpoint by its latency times the requests in flight.
// The latency is a moving average that jumps up to a peak at once and comes
// down slowly, so that an endpoint that stalls is left alone from its first
// slow answer on, and is tried again when that is forgotten. (Finagle's peak
// EWMA.)
//
// Times count from any fixed moment, by a clock that never goes back. The
// methods are safe for concurrent use and take no lock.
type PeakEWMA struct {
	decay   float64 // in ticks
	pending atomic.Int64
	// state is the average, a float32 of nanoseconds, above the tick that it is
	// of: the two change together.
	state atomic.Uint64
}

const (
	// tick is about a millisecond: 32 bits of it last for 52 days.
	tick = time.Duration(1 << 20)
	// leastLatency is what endpoints may differ by without any difference to who
	// is picked: below it, the number of requests in flight decides. Otherwise a
	// client of few requests would send them all to the endpoint that is nearest
	// by some microseconds, and leave alone for half a minute the one that
	// happened to take a few milliseconds once. It also keeps the requests in
	// flight visible where the latency has been forgotten.
	leastLatency = 10 * time.Millisecond
)

// NewPeakEWMA makes a meter that expects the initial latency, and has forgotten
// about two thirds of an old one after decay.
func NewPeakEWMA(initial, decay, now time.Duration) *PeakEWMA {
	m := &PeakEWMA{decay: float64(decay) / float64(tick)}
	m.state.Store(pack(float64(initial), ticks(now)))
	return m
}

// Begin counts a request that the endpoint gets.
func (m *PeakEWMA) Begin(time.Duration) { m.pending.Add(1) }

// End counts it as over. latency is the time from Begin to the response's head,
// or negative if there was none.
func (m *PeakEWMA) End(now, latency time.Duration) {
	m.pending.Add(-1)
	if latency < 0 {
		return
	}
	for {
		was := m.state.Load()
		average, weight, at := m.unpack(was, now)
		if l := float64(latency); l > average {
			average = l
		} else {
			average = average*weight + l*(1-weight)
		}
		is := pack(average, at)
		if is == was || m.state.CompareAndSwap(was, is) {
			return
		}
	}
}

// Cost is the latency to expect now, in nanoseconds, of this request and those
// in flight. What is not used becomes cheaper with time.
func (m *PeakEWMA) Cost(now time.Duration) int64 {
	average, weight, _ := m.unpack(m.state.Load(), now)
	latency := max(average*weight, float64(leastLatency))
	return int64(min(latency*float64(m.pending.Load()+1), math.MaxInt64/2))
}

func ticks(now time.Duration) uint32 { return uint32(now / tick) }

func pack(average float64, at uint32) uint64 {
	return uint64(math.Float32bits(float32(average)))<<32 | uint64(at)
}

// unpack returns the average, what it weighs now, from 1 for news down to 0, and
// the tick that a new average is of.
func (m *PeakEWMA) unpack(state uint64, now time.Duration) (average, weight float64, at uint32) {
	average, at = float64(math.Float32frombits(uint32(state>>32))), uint32(state)
	age := int32(ticks(now) - at) // wraps with the clock
	if age <= 0 {                 // below 0 where somebody with a later time was quicker
		return average, 1, at
	}
	return average, math.Exp(-float64(age) / m.decay), ticks(now)
}
