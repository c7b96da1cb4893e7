package controller

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
)

// loadPercent is GOGC while the heap grows from nothing, by all objects and then by all agents.
// What is garbage at the end of that leaves room of sizes that nothing is made in later.
const loadPercent = 25

// gcPercent is GOGC afterwards, unless that is set. Most of what a controller holds stays for long, so that
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
		debug.SetGCPercent(loadPercent)
	}
}

// SettleProcessors lets two threads of this process compute at the same time, if it would be
// one, unless GOMAXPROCS is set. On one processor the kernel then shares that between a
// publication, or a collection of garbage, and the streams of agents. With one thread these wait
// until the other has used up its time, or has nothing more to do. For a container whose limit is
// one processor the runtime does the same.
func SettleProcessors() {
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) == 1 {
		runtime.GOMAXPROCS(2)
	}
}
