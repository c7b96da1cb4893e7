package agent

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/agent/nri"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/mesh"
)

// podCounts are counts since the agent started.
type podCounts struct {
	repaired  atomic.Uint64
	sandboxes map[nri.Outcome]*atomic.Uint64 // what became of new sandboxes
}

func newPodCounts() *podCounts {
	c := &podCounts{sandboxes: make(map[nri.Outcome]*atomic.Uint64)}
	for _, o := range nri.Outcomes {
		c.sandboxes[o] = new(atomic.Uint64)
	}
	return c
}

// status lists the labelled pods, for `agent status`.
func (p *pods) status() []*agentv1.Pod {
	p.mu.RLock()
	defer p.mu.RUnlock()
	list := make([]*agentv1.Pod, 0, len(p.pods)+len(p.leftOut))
	for _, all := range []map[string]*pod{p.pods, p.leftOut} {
		for _, have := range all {
			w := have.workload
			entry := &agentv1.Pod{
				Namespace: w.Namespace, Name: w.Name, Ip: firstAddr(w),
				State: have.state, Reason: have.reason, PreMeshConnections: have.preMesh, Since: timestamp(have.since),
			}
			if !w.Identity.IsZero() {
				entry.Identity = w.Identity.String()
			}
			list = append(list, entry)
		}
	}
	slices.SortFunc(list, func(x, y *agentv1.Pod) int {
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	return list
}

// preMesh counts by UID the connections from before the mesh.
func (p *pods) preMesh() map[string]uint32 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	counts := make(map[string]uint32, len(p.pods))
	for uid, have := range p.pods {
		if have.enrolled != nil {
			counts[uid] = have.preMesh
		}
	}
	return counts
}

func firstAddr(w *mesh.Workload) string {
	if len(w.Addrs) == 0 {
		return ""
	}
	return w.Addrs[0].String()
}

// report tells the controller what became of the labelled pods.
func (p *pods) report() {
	p.mu.RLock()
	list := make([]control.PodStatus, 0, len(p.pods)+len(p.leftOut))
	for _, all := range []map[string]*pod{p.pods, p.leftOut} {
		for uid, have := range all {
			list = append(list, control.PodStatus{UID: uid, State: have.state, Reason: have.reason, PreMesh: have.preMesh})
		}
	}
	p.mu.RUnlock()
	p.agent.client.ReportPods(list)
}

// sandboxCounts is what became of the sandboxes that the runtime told of.
func (p *pods) sandboxCounts() map[string]uint64 {
	counts := make(map[string]uint64, len(p.counts.sandboxes))
	for outcome, n := range maps.All(p.counts.sandboxes) {
		counts[string(outcome)] = n.Load()
	}
	return counts
}
