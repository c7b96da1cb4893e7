package enrol

import (
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/state"
)

// records are what is known of the node's labelled pods, by UID.
type records struct {
	mu   sync.RWMutex
	pods map[string]*pod
	// leftOut are labelled pods that cannot be meshed.
	leftOut map[string]*pod
	// announced are pods that the state does not have yet and that the runtime has
	// announced: their own label says that they are of the mesh.
	announced map[string]announced
}

type announced struct {
	workload *mesh.Workload
	since    time.Time
}

// pod is a labelled pod of this node.
type pod struct {
	source   *mesh.Workload // as the state has it
	workload *mesh.Workload // with the addresses that the runtime knew before
	state    string         // nodeapi.Pod…
	reason   string
	since    time.Time
	preMesh  uint32        // connections that were open before it was enrolled
	enrolled *redirect.Pod // nil unless state is PodEnrolled
	shut     bool          // closed until it is enrolled; busy is held
}

func (r *records) has(uid string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.pods[uid] != nil
}

// unknown returns the pods that were announced and that the view does not know yet. It
// forgets those that the view, of a connected controller, ought to know by now.
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
