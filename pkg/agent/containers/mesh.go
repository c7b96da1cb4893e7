package containers

import (
	"time"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
)

// costTable is what pods have cost the agent at one time, by UID.
type costTable struct {
	// at is the time of the processor times. It may be a moment before the sample: two
	// readers who ask at once get the same processor times.
	at   time.Time
	pods map[string]*agentv1.PodCost
}

func costsOf(r *agentv1.CostsResponse) costTable {
	c := costTable{at: r.GetTime().AsTime(), pods: make(map[string]*agentv1.PodCost, len(r.GetPods()))}
	for _, p := range r.GetPods() {
		c.pods[p.GetUid()] = p
	}
	return c
}

// mesh returns what a pod costs the agent, in both directions together, with rates since the
// sample base, which may be nil. It returns nil for a pod that costs nothing, because it is
// not in the mesh.
func (s *sample) mesh(uid string, base *sample) *agentv1.MeshUsage {
	pod := s.costs.pods[uid]
	if pod == nil {
		return nil
	}
	out, in := pod.GetOutbound(), pod.GetInbound()
	m := &agentv1.MeshUsage{
		Buffered:    out.GetBytes() + in.GetBytes(),
		Connections: uint32(out.GetConnections() + in.GetConnections()),
		Streams:     uint32(out.GetStreams() + in.GetStreams()),
	}
	if base != nil {
		old := base.costs.pods[uid] // of a pod that is new: nothing
		m.Cpu = rate(processor(pod), processor(old), s.costs.at.Sub(base.costs.at).Seconds())
		m.Waiting = rate(waited(pod), waited(old), s.at.Sub(base.at).Seconds())
	}
	return m
}

func processor(p *agentv1.PodCost) time.Duration {
	return p.GetOutbound().GetProcessor().AsDuration() + p.GetInbound().GetProcessor().AsDuration()
}

func waited(p *agentv1.PodCost) time.Duration {
	return p.GetOutbound().GetWaited().AsDuration() + p.GetInbound().GetWaited().AsDuration()
}
