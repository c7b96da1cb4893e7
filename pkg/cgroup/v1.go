package cgroup

import "time"

// noLimit is what version 1 says if there is no limit of memory: the largest number of
// whole pages. Pages have up to 64 KiB.
const noLimit = 1<<63 - 1<<16

// read1 adds what a cgroup of a hierarchy of version 1 says that has these controllers,
// except for the parts that are known.
func (c cgroup) read1(u *Usage, controllers []string, known Known, limits *sums) {
	if has(controllers, "cpuacct") && !known.Has(KnowsCPU) {
		if used, ok := number(c.text("cpuacct.usage")); ok {
			u.Known |= KnowsCPU
			u.CPU += time.Duration(used)
		}
	}
	if has(controllers, "cpu") && !known.Has(KnowsLimits) {
		c.readLimits1(u, limits)
	}
	if has(controllers, "memory") && !known.Has(KnowsMemory) {
		c.readMemory1(u, limits)
	}
}

func (c cgroup) readMemory1(u *Usage, limits *sums) {
	if used, ok := number(c.text("memory.usage_in_bytes")); ok {
		u.Known |= KnowsMemory
		u.Memory += used
		u.WorkingSet += used - min(used, keyed(c.text("memory.stat")).of("total_inactive_file"))
		peak, _ := number(c.text("memory.max_usage_in_bytes"))
		u.Peak += peak
		limit, _ := number(c.text("memory.limit_in_bytes"))
		if limit >= noLimit {
			limit = 0
		}
		limits.limitMemory(limit)
		for _, one := range c.levels() {
			u.OOMKills += keyed(one.text("memory.oom_control")).of("oom_kill") // of the cgroup itself
			u.fill(one, "memory.limit_in_bytes", "memory.usage_in_bytes")
		}
	}
}

func (c cgroup) readLimits1(u *Usage, limits *sums) {
	period, ok := number(c.text("cpu.cfs_period_us"))
	if !ok || period == 0 {
		return
	}
	u.Known |= KnowsLimits
	quota, _ := number(c.text("cpu.cfs_quota_us")) // -1: no limit
	limits.limitProcessors(float64(quota) / float64(period))
	for _, one := range c.levels() {
		stat := keyed(one.text("cpu.stat"))
		u.Periods += stat.of("nr_periods")
		u.Throttled += stat.of("nr_throttled")
		u.ThrottledFor += time.Duration(stat.of("throttled_time"))
	}
}
