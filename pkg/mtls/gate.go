package mtls

import (
	"context"
	"sync/atomic"
	"time"
)

// Gate smooths storms of handshakes, which would otherwise delay the traffic
// of established connections: only so many run at once. It is a soft bound:
// who has waited for the gate's patience goes through, so that peers which
// stall in their handshakes can slow others down but never lock them out.
// Handshakes need a deadline of their own.
type Gate struct {
	slots    chan struct{}
	patience time.Duration

	waits, overruns atomic.Uint64
}

// GateStats counts since the start.
type GateStats struct {
	Running  int    // handshakes holding a slot now
	Waits    uint64 // handshakes that had to wait
	Overruns uint64 // of these, how many went through without a slot
}

// NewGate makes a gate for n handshakes at once (at least one).
func NewGate(n int, patience time.Duration) *Gate {
	return &Gate{slots: make(chan struct{}, max(n, 1)), patience: patience}
}

// Enter waits for a slot. leave must be called once, also when the handshake
// failed. The only error is ctx's.
func (g *Gate) Enter(ctx context.Context) (leave func(), err error) {
	select {
	case g.slots <- struct{}{}:
		return g.leave, nil
	default:
	}
	g.waits.Add(1)
	timer := time.NewTimer(g.patience)
	defer timer.Stop()
	select {
	case g.slots <- struct{}{}:
		return g.leave, nil
	case <-timer.C:
		g.overruns.Add(1)
		return func() {}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (g *Gate) leave() { <-g.slots }

// Stats returns the counters.
func (g *Gate) Stats() GateStats {
	return GateStats{Running: len(g.slots), Waits: g.waits.Load(), Overruns: g.overruns.Load()}
}
