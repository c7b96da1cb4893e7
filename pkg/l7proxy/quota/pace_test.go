package quota

import (
	"testing"
	"time"
)

// TestPace: a burst passes at once, then what is over the rate waits, as long as it takes
// to come down to the rate; an empty bucket takes another burst.
func TestPace(t *testing.T) {
	var p Pace
	now := time.Hour
	for round := range 3 {
		for i := range VainBurst {
			if wait := p.Add(now, 1); wait != 0 {
				t.Fatalf("round %d, number %d: got a wait of %v, want none", round, i, wait)
			}
		}
		for i := range 3 * VainRate {
			if got, want := p.Add(now, 1), time.Duration(i+1)*time.Second/VainRate; got != want {
				t.Fatalf("round %d, number %d over the burst: got a wait of %v, want %v", round, i, got, want)
			}
		}
		now += 3*time.Second + VainBurst*time.Second/VainRate
	}
	for i := range 10 * VainRate { // in time
		if wait := p.Add(now, 1); wait != 0 {
			t.Fatalf("number %d at the rate: got a wait of %v, want none", i, wait)
		}
		now += time.Second / VainRate
	}
}
