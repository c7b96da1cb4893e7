package controller

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	mostGCPercent = 200
	paceEvery     = 10 * time.Second
	// dear and cheap are shares of a processor that the collection of garbage takes: beyond
	// dear the heap may grow further, below cheap it may grow less.
	dear, cheap = 0.04, 0.01
	// filled is the share of the slots in use that new objects find, in percent: those of their
	// own size.
	filled = 70
	// mostOfLimit is up to which multiple of the limit, in percent, the runtime's own goes. That
	// of SettleMemory is 90 % of the container's, so this is 97 %.
	mostOfLimit = 108
)

// PaceCollection lets the heap grow less until everything is read, as SettleMemory has begun it,
// and further afterwards while to collect garbage takes more than a few percent of a processor
// and memory is far from the limit, until ctx ends. It does nothing if GOGC is set. Call it after
// SettleMemory.
func PaceCollection(ctx context.Context) {
	limit := debug.SetMemoryLimit(-1)
	if os.Getenv("GOGC") != "" {
		return
	}
	ticker := time.NewTicker(paceEvery)
	defer ticker.Stop()
	percent, before, loads := loadPercent, readMemory(), true
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now := readMemory()
		// Once only: what is new while a collection runs counts as live, much of it under churn.
		loads = loads && now.grows(before)
		next := gcPercent
		switch {
		case loads:
			next = loadPercent
		case limit < math.MaxInt64:
			next = now.pace(percent, (now.collecting-before.collecting)/paceEvery.Seconds(), uint64(limit))
		}
		if limit < math.MaxInt64 {
			debug.SetMemoryLimit(int64(now.limit(uint64(limit))))
		}
		if before = now; next != percent {
			percent = next
			debug.SetGCPercent(percent)
		}
	}
}

// memory is what a process has, in bytes.
type memory struct {
	live       uint64  // of the heap, after the last collection
	slots      uint64  // free ones within the heap, after the last collection
	beside     uint64  // the heap: stacks, the runtime's own
	collecting float64 // seconds of processor time that collections took
}

func readMemory() (m memory) {
	of := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/cpu/classes/gc/total:cpu-seconds"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(of)
	m.live, m.collecting, m.beside = of[0].Value.Uint64(), of[1].Value.Float64(), of[2].Value.Uint64()
	if heap := of[3].Value.Uint64() + of[4].Value.Uint64(); heap > m.live {
		m.slots = heap - m.live
	}
	for _, part := range of[3:] {
		m.beside -= part.Value.Uint64()
	}
	return m
}

// limit returns the limit to give to the runtime, so that this process stays within limit, or
// little above. The runtime reckons that free slots in the heap stay unused, as they do if they
// have the wrong size. With hundreds of megabytes of them, after a large first state, it would
// collect again after some twenty megabytes, all the time. The slots that are likely to be used are
// therefore added.
func (m memory) limit(limit uint64) uint64 {
	return min(limit+m.slots*filled/100, limit*mostOfLimit/100)
}

// grows reports whether much more is live than before: all objects are read, or all agents connect.
func (m memory) grows(before memory) bool { return m.live > before.live+before.live/20 }

// pace returns the next GOGC. share is the share of a processor that collections take with the
// present one.
func (m memory) pace(percent int, share float64, limit uint64) int {
	switch {
	case share > dear:
		percent = percent * 3 / 2
	case share < cheap:
		percent = percent * 2 / 3
	}
	room := int64(limit) - int64(limit/20) - int64(m.beside) - int64(m.live)
	fits := int(room * 100 / int64(max(m.live, 1)))
	return max(min(percent, fits, mostGCPercent), gcPercent)
}
