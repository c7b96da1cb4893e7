package controller

import (
	"math"
	"os"
	"runtime/debug"
)

// gcPercent is GOGC unless that is set. Most of what a controller holds stays for long, so that
// it takes about half as much again, and not twice as much, for little more processor time. While
// much changes it is not little: see PaceCollection.
const gcPercent = 50

// SettleMemory makes the runtime of this process collect before the kernel kills. GOMEMLIMIT is
// the limit of the container, in which the kernel counts more than the runtime does: the
// program, and the buffers of thousands of sockets.
func SettleMemory() {
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		debug.SetMemoryLimit(limit / 10 * 9)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
