package h2conn

import "testing"

// TestYields: sends yield as long as that gains something often enough, and find out again when
// it does.
func TestYields(t *testing.T) {
	var y yields
	run := func(sends, gainEvery int) (yielded int) {
		for range sends {
			if y.pays() {
				yielded++
				y.paid(gainEvery > 0 && yielded%gainEvery == 0)
			}
		}
		return yielded
	}
	if got := run(1600, 0); got != 100 {
		t.Errorf("%d of 1600 sends yield in vain, want 100", got)
	}
	if got := run(1600, 3); got < 1500 {
		t.Errorf("%d of 1600 sends yield where a third gains something, want 1500 or more", got)
	}
	if got := run(1600, 8); got > 400 {
		t.Errorf("%d of 1600 sends yield where an eighth gains something, want 400 at most", got)
	}
	if got := run(1600, 1); got < 1500 {
		t.Errorf("%d of 1600 sends yield where all gain something, want 1500 or more", got)
	}
}
