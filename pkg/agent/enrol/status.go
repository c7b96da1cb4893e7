package enrol

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/underlane/underlane/api/agent/v1"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/mesh"
)

// Status lists the labelled pods, for `agent status`.
func (r *records) Status() []*agentv1.Pod {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]*agentv1.Pod, 0, len(r.pods)+len(r.leftOut))
	for _, all := range []map[string]*pod{r.pods, r.leftOut} {
		for _, have := range all {
			w := have.workload
			entry := &agentv1.Pod{
				Namespace: w.Namespace, Name: w.Name, Ip: firstAddr(w),
				State: have.state, Reason: have.reason, PreMeshConnections: have.preMesh, Since: timestamppb.New(have.since),
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

// PreMesh returns, by pod UID, the number of connections that were open before the pod
// was enrolled.
func (r *records) PreMesh() map[string]uint32 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	counts := make(map[string]uint32, len(r.pods))
	for uid, have := range r.pods {
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

// report sends the controller the states of the labelled pods, and which others still have
// connections.
func (r *enroller) report() {
	r.mu.RLock()
	list := make([]control.PodStatus, 0, len(r.pods)+len(r.leftOut))
	for _, all := range []map[string]*pod{r.pods, r.leftOut} {
		for uid, have := range all {
			status := control.PodStatus{UID: uid, State: have.state, Reason: have.reason, PreMesh: have.preMesh}
			if have.enrolled != nil {
				status.Addrs = control.ByFamily(have.workload.Addrs)
			}
			list = append(list, status)
		}
	}
	for _, w := range r.Carrier.Leaving() {
		if r.pods[w.UID] == nil && r.leftOut[w.UID] == nil {
			list = append(list, control.PodStatus{UID: w.UID, Leaving: true})
		}
	}
	r.mu.RUnlock()
	r.Controller.ReportPods(list)
}
