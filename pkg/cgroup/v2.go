package cgroup

import (
	"strings"
	"time"
)

// read2 adds what a cgroup of version 2 says, except for the parts that are known.
// Without its controllers (a hybrid host) that is the processor time and the pressure.
func (c cgroup) read2(u *Usage, known Known, limits *sums) {
	if !known.Has(KnowsCPU) {
		if used, ok := keyed(c.text("cpu.stat")).get("usage_usec"); ok {
			u.Known |= KnowsCPU
			u.CPU += micros(used)
		}
	}
	if !known.Has(KnowsLimits) {
		c.readLimits2(u, limits)
	}
	if !known.Has(KnowsMemory) {
		c.readMemory2(u, limits)
	}
	if !known.Has(KnowsPressure) {
		c.readPressure(u)
	}
}

func (c cgroup) readLimits2(u *Usage, limits *sums) {
	if limit := c.text("cpu.max"); limit != "" {
		u.Known |= KnowsLimits
		limits.limitProcessors(processors2(limit))
		for _, one := range c.levels() {
			stat := keyed(one.text("cpu.stat"))
			u.Periods += stat.of("nr_periods")
			u.Throttled += stat.of("nr_throttled")
			u.ThrottledFor += micros(stat.of("throttled_usec"))
		}
	}
}

func (c cgroup) readMemory2(u *Usage, limits *sums) {
	if used, ok := number(c.text("memory.current")); ok {
		u.Known |= KnowsMemory
		u.Memory += used
		u.WorkingSet += used - min(used, keyed(c.text("memory.stat")).of("inactive_file"))
		peak, _ := number(c.text("memory.peak")) // since Linux 5.19
		u.Peak += peak
		limit, _ := number(c.text("memory.max"))
		limits.limitMemory(limit)
		// These count what happens below the cgroup, too.
		events := keyed(c.text("memory.events"))
		u.OOMs += events.of("oom")
		u.OOMKills += events.of("oom_kill")
		for _, one := range c.levels() {
			u.fill(one, "memory.max", "memory.current")
		}
	}
}

func (c cgroup) readPressure(u *Usage) {
	for file, p := range map[string]*Pressure{
		"cpu.pressure": &u.CPUPressure, "memory.pressure": &u.MemoryPressure, "io.pressure": &u.IOPressure,
	} {
		if now, ok := pressure(c.text(file)); ok {
			u.Known |= KnowsPressure
			p.Avg10, p.Avg60 = max(p.Avg10, now.Avg10), max(p.Avg60, now.Avg60)
			p.Total += now.Total
		}
	}
}

// processors2 returns the limit of cpu.max, "QUOTA PERIOD" in microseconds, or "max PERIOD":
// 0.
func processors2(text string) float64 {
	quota, period, _ := strings.Cut(strings.TrimSpace(text), " ")
	q, ok1 := number(quota)
	p, ok2 := number(period)
	if !ok1 || !ok2 || p == 0 {
		return 0
	}
	return float64(q) / float64(p)
}

func micros(n uint64) time.Duration { return time.Duration(n) * time.Microsecond }
