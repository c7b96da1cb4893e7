package controller

import (
	"math"
	"runtime/debug"
	"testing"
)

// TestSettleMemory: the runtime's limit stays below the container's, and who sets GOGC gets it.
func TestSettleMemory(t *testing.T) {
	limit, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	defer func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	}()
	debug.SetMemoryLimit(math.MaxInt64)
	SettleMemory()
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
		t.Errorf("without a limit: %d", got)
	}
	if got := debug.SetGCPercent(77); got != gcPercent {
		t.Errorf("GOGC is %d", got)
	}
	debug.SetMemoryLimit(1 << 30)
	t.Setenv("GOGC", "77")
	SettleMemory()
	if got := debug.SetMemoryLimit(-1); got < 900<<20 || got > 950<<20 {
		t.Errorf("of 1 GiB: %d", got)
	}
	if got := debug.SetGCPercent(100); got != 77 {
		t.Errorf("GOGC of the environment became %d", got)
	}
}
