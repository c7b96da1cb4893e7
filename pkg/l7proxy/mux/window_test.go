package mux

import (
	"testing"
	"time"
)

// TestWindowsOverDistance: the windows of opaque streams grow after fewer bytes where a round
// trip is long, and never before the first window.
func TestWindowsOverDistance(t *testing.T) {
	near := windowsOf[Opaque]
	for _, c := range []struct {
		rtt   time.Duration
		after int
	}{
		{0, near.after},
		{50 * time.Microsecond, near.after},
		{125 * time.Microsecond, near.after},
		{250 * time.Microsecond, 256 << 10},
		{700 * time.Microsecond, 64 << 10},
		{1100 * time.Microsecond, near.first},
		{80 * time.Millisecond, near.first},
	} {
		got := near.over(c.rtt)
		if want := (windows{near.first, c.after, near.within + c.rtt}); got != want {
			t.Errorf("%v away: %+v, want %+v", c.rtt, got, want)
		}
	}
}
