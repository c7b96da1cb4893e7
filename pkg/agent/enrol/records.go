package enrol

import (
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/state"
)

// records has the node's labelled pods, by UID.
type records struct {
	mu   sync.RWMutex
	pods map[string]*pod
	// leftOut are labelled pods that cannot be meshed.
	leftOut map[string]*pod
	// announced are labelled pods that the runtime has announced and that the state does
	// not have yet.
	announced map[string]announced
}

type announced struct {
	workload *mesh.Workload
	since    time.Time
}

// pod is a labelled pod of this node.
type pod struct {
	source   *mesh.Workload // in the state
	workload *mesh.Workload // the same with the addresses that the runtime announced
	state    string         // nodeapi.Pod…
	reason   string
	since    time.Time
	preMesh  uint32        // connections that were open before it was enrolled
	enrolled *redirect.Pod // nil unless state is PodEnrolled
	shut     bool          // closed until it is enrolled; guarded by busy
}

func (r *records) has(uid string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.pods[uid] != nil
}

// unknown returns the announced pods that the view does not have yet. It forgets pods
// that the view has, and pods that a connected controller did not send within
// unknownWait.
func (r *records) unknown(view *state.View, connected bool) map[string]*mesh.Workload {
	list := make(map[string]*mesh.Workload)
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid, a := range r.announced {
		if _, known := view.WorkloadByUID(uid); known || (connected && time.Since(a.since) > unknownWait) {
			delete(r.announced, uid)
			continue
		}
		list[uid] = a.workload
	}
	return list
}

func (r *records) set(have *pod, state, reason string, e *redirect.Pod, preMesh uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if have.state != state {
		have.since = time.Now()
	}
	have.state, have.reason, have.enrolled, have.preMesh = state, reason, e, preMesh
}
