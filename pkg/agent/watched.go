package agent

import (
	"maps"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/redirect/netns"
)

// direct returns the connections of a pod that no proxy carries, as the kernel has them now.
func (a *components) direct(uid string) ([]netns.Connection, error) {
	if list, ok, err := a.watch.Direct(uid); ok {
		return list, err
	}
	return a.carrier.Direct(uid)
}

// watched returns what became of the pods that are to be observed; nil: there are none.
func (a reporter) watched() *agentv1.Watched {
	s := a.watch.Status()
	if s.Wanted == 0 {
		return nil
	}
	out := &agentv1.Watched{Pods: uint32(s.Pods), Wanted: uint32(s.Wanted)}
	if s.Err != nil {
		out.Error = s.Err.Error()
	}
	return out
}

// observe adds to the kernel-side counters those of the pods that are observed. Without such
// a pod there are none.
func (a reporter) observe(counts map[string]uint64) {
	watch := a.watch.Status()
	if counts == nil || watch.Wanted == 0 && watch.Paths == 0 {
		return
	}
	_ = a.observer.Counters(counts)
	maps.Copy(counts, map[string]uint64{
		"observe-gap": watch.Counts.Gaps, "observe-opaque": watch.Counts.Opaque, "observe-refused": watch.Counts.Refused,
		"observe-dropped": watch.Counts.Dropped, "observe-untold": watch.Unsaid,
	})
}
