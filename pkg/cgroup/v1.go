package cgroup

import "time"

// noLimit is what version 1 says if there is no limit of memory: the largest number of
// whole pages. Pages have up to 64 KiB.
const noLimit = 1<<63 - 1<<16

// read1 adds what a cgroup of a hierarchy of version 1 says that has these controllers.
func (c cgroup) read1(u *Usage, controllers []string, limits *sums) {
	if used, ok := number(c.text("cpuacct.usage")); ok && has(controllers, "cpuacct") {
		u.Known |= KnowsCPU
		u.CPU += time.Duration(used)
	}
	if has(controllers, "cpu") {
		c.readLimits1(u, limits)
	}
	if used, ok := number(c.text("memory.usage_in_bytes")); ok && has(controllers, "memory") {
		u.Known |= KnowsMemory
		u.Memory += used
		u.WorkingSet += used - min(used, keys(c.text("memory.stat"))["total_inactive_file"])
		peak, _ := number(c.text("memory.max_usage_in_bytes"))
		u.Peak += peak
		limit, _ := number(c.text("memory.limit_in_bytes"))
		if limit >= noLimit {
			limit = 0
		}
		limits.limitMemory(limit)
		for _, one := range c.levels() {
			u.OOMKills += keys(one.text("memory.oom_control"))["oom_kill"] // of the cgroup itself
			used, _ := number(one.text("memory.usage_in_bytes"))
			limit, _ := number(one.text("memory.limit_in_bytes"))
			u.fill(used, limit)
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
		stat := keys(one.text("cpu.stat"))
		u.Periods += stat["nr_periods"]
		u.Throttled += stat["nr_throttled"]
		u.ThrottledFor += time.Duration(stat["throttled_time"])
	}
}
