package balance

import (
	"math"
	"sync/atomic"
	"time"
)

// PeakEWMA measures an endpoint by its latency multiplied by its requests in flight.
// The latency is a moving average that rises to a peak at once and falls slowly. So an
// endpoint that stalls is avoided from its first slow answer on, and tried again when
// the peak has faded. (Finagle's peak EWMA.)
//
// Times are durations since a fixed moment, from a clock that never goes back. The
// methods are safe for concurrent use and take no lock.
type PeakEWMA struct {
	decay   float64 // in ticks
	pending atomic.Int64
	// state has the average in its upper half, a float32 of nanoseconds, and the tick
	// of the average in its lower half, so that both change together.
	state atomic.Uint64
}

const (
	// tick is about a millisecond: 32 bits of it last for 52 days.
	tick = time.Duration(1 << 20)
	// leastLatency is the lower bound of a latency in Cost: below it, only the requests
	// in flight decide. Without it, a client with few requests would send all of them
	// to the endpoint that is faster by microseconds, and would avoid for half a minute
	// an endpoint that was slow by milliseconds once. It also keeps the requests in
	// flight relevant after the latency has faded.
	leastLatency = 10 * time.Millisecond
)

// NewPeakEWMA returns a meter that starts with the initial latency. After decay, about
// two thirds of an old latency have faded.
func NewPeakEWMA(initial, decay, now time.Duration) *PeakEWMA {
	m := &PeakEWMA{decay: float64(decay) / float64(tick)}
	m.state.Store(pack(float64(initial), ticks(now)))
	return m
}

// Begin counts a request that is sent to the endpoint.
func (m *PeakEWMA) Begin(time.Duration) { m.pending.Add(1) }

// End counts a request as ended. latency is the time from Begin to the response's
// head; it is negative if there was no response.
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

// Cost is the expected latency at the time now, in nanoseconds, multiplied by the
// requests in flight and one more. It falls with time while no request ends.
func (m *PeakEWMA) Cost(now time.Duration) int64 {
	average, weight, _ := m.unpack(m.state.Load(), now)
	latency := max(average*weight, float64(leastLatency))
	return int64(min(latency*float64(m.pending.Load()+1), math.MaxInt64/2))
}

func ticks(now time.Duration) uint32 { return uint32(now / tick) }

func pack(average float64, at uint32) uint64 {
	return uint64(math.Float32bits(float32(average)))<<32 | uint64(at)
}

// unpack returns the average, its weight at the time now (1 if it is new, falling to
// 0), and the tick for a new average.
func (m *PeakEWMA) unpack(state uint64, now time.Duration) (average, weight float64, at uint32) {
	average, at = float64(math.Float32frombits(uint32(state>>32))), uint32(state)
	age := int32(ticks(now) - at) // wraps with the clock
	if age <= 0 {                 // below 0 if another goroutine with a later time was faster
		return average, 1, at
	}
	return average, math.Exp(-float64(age) / m.decay), ticks(now)
}
