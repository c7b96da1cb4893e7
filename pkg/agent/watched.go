package agent

import "maps"

// observe adds to the kernel-side counters those of the pods that are observed. Without such
// a pod there are none.
func (a reporter) observe(counts map[string]uint64) {
	watch := a.watch.Status()
	if counts == nil || watch.Wanted == 0 {
		return
	}
	_ = a.observer.Counters(counts)
	maps.Copy(counts, map[string]uint64{
		"observe-gap": watch.Counts.Gaps, "observe-opaque": watch.Counts.Opaque, "observe-refused": watch.Counts.Refused,
		"observe-dropped": watch.Counts.Dropped, "observe-untold": watch.Unsaid,
	})
}
