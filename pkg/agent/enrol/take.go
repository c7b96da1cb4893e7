package enrol

import (
	"errors"
	"time"

	"github.com/underlane/underlane/pkg/agent/nodeapi"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect/netns"
)

// Wake makes Run reconcile soon.
func (r *Reconciler) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// ReconcileAll reconciles now, including the pods that did not change.
func (r *Reconciler) ReconcileAll() {
	r.Pause()
	defer r.Resume()
	r.reconcile(r.Store.View(), true)
}

// take enrols a pod in a sandbox that the runtime has announced. w is the workload in the
// state, fresh the same with the sandbox's addresses. The caller holds busy.
func (r *Reconciler) take(w, fresh *mesh.Workload, ns *netns.NS) error {
	r.mu.Lock()
	have := r.pods[w.UID]
	if have == nil {
		have = &pod{state: nodeapi.PodPending, since: time.Now()}
		r.pods[w.UID] = have
	}
	if have.enrolled != nil && have.enrolled.Cookie() == ns.Cookie() {
		r.mu.Unlock()
		closeNS(ns)
		return nil
	}
	if _, known := r.Store.View().WorkloadByUID(w.UID); !known {
		r.announced[w.UID] = announced{workload: fresh, since: time.Now()}
	}
	r.mu.Unlock()
	r.retire(have)
	r.mu.Lock()
	have.source = w
	r.setWorkload(have, fresh)
	r.mu.Unlock()
	if !r.enrol(have, ns) {
		return errors.New(have.reason)
	}
	return nil
}
