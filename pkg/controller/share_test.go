package controller

import (
	"math/rand/v2"
	"testing"
)

func TestSurplus(t *testing.T) {
	for _, tc := range []struct{ mine, agents, replicas, want int }{
		{5000, 5000, 1, 0},
		{2500, 5000, 3, 833},
		{1667, 5000, 3, 0},
		{1800, 5000, 3, 0}, // within a tenth
		{0, 5000, 3, 0},
		{5, 9, 3, 0}, // chance
		{2, 2, 3, 0},
		{9, 0, 3, 0}, // the agents' pods are not known
	} {
		if got := surplus(tc.mine, tc.agents, tc.replicas, false); got != tc.want {
			t.Errorf("%+v: got %d", tc, got)
		}
	}
}

// TestSharesConverge: whatever the shares are, after some minutes each is near the mean, and then
// nobody moves.
func TestSharesConverge(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	for _, start := range [][]int{{2500, 2500, 0}, {5000, 0, 0}, {600, 300, 100}, {10, 10, 10}, {300, 0}, {1000, 1000, 1000, 1000, 0}} {
		shares := append([]int(nil), start...)
		agents := 0
		for _, n := range shares {
			agents += n
		}
		moved, moving := 0, make([]bool, len(shares))
		for second := range 300 {
			for i := range shares {
				n := surplus(shares[i], agents, len(shares), moving[i])
				moving[i] = n > 0
				if n = (n + shareOf - 1) / shareOf; n > 0 && second >= 240 {
					t.Errorf("%v: %d still move after four minutes", start, n)
				}
				shares[i] -= n
				moved += n
				for range n {
					shares[dice.IntN(len(shares))]++
				}
			}
		}
		fair := agents / len(shares)
		for _, n := range shares {
			if off := max(n-fair, fair-n); off > 3+fair/6 && off > 6 {
				t.Errorf("%v: after five minutes %v", start, shares)
			}
		}
		t.Log(start, shares, moved)
	}
}
