package h1

import (
	"testing"
	"time"
)

// TestHeadPatience: the more waits, the less time a head has.
func TestHeadPatience(t *testing.T) {
	for fill, want := range map[float64]time.Duration{0: headTime, 0.5: headTime / 2, 0.99: headTimeLeast, 1: headTimeLeast} {
		if got := headPatience(fill); got != want {
			t.Errorf("fill %v: got %v, want %v", fill, got, want)
		}
	}
}
