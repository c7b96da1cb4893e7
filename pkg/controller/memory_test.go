package controller

import (
	"math"
	"runtime"
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
	if got := debug.SetGCPercent(77); got != loadPercent {
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

func TestSettleProcessors(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	t.Setenv("GOMAXPROCS", "1")
	if SettleProcessors(); runtime.GOMAXPROCS(0) != 1 {
		t.Error("GOMAXPROCS of the environment is not kept")
	}
	t.Setenv("GOMAXPROCS", "")
	if SettleProcessors(); runtime.GOMAXPROCS(0) != 2 {
		t.Error("one thread computes at a time")
	}
	runtime.GOMAXPROCS(3)
	if SettleProcessors(); runtime.GOMAXPROCS(0) != 3 {
		t.Error("three threads became others")
	}
}
