package fairshare

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestAside: work that nobody waits for rests after each piece, as long as it may.
func TestAside(t *testing.T) {
	piece := func() { time.Sleep(asidePiece) }
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		a := NewAside(t.Context(), time.Hour)
		for range 10 {
			if a.Rest() {
				t.Error("a rest within a piece")
			}
			piece()
			if !a.Rest() {
				t.Error("no rest after a piece")
			}
		}
		if got, want := time.Since(began), 10*(asidePiece+asideRest); got != want {
			t.Errorf("took %v, want %v", got, want)
		}
		late := NewAside(t.Context(), 0)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		ended := NewAside(ctx, time.Hour)
		piece()
		if late.Rest() || ended.Rest() {
			t.Error("a rest after the time for it, or after the end")
		}
	})
}
