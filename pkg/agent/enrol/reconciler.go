// Package enrol decides which pods of a node are in the mesh, and enrols them: as
// the controller's state says, and as the container runtime announces them.
package enrol

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/agent/nodeapi"
	"github.com/underlane/underlane/pkg/control"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/redirect/netns"
	"github.com/underlane/underlane/pkg/redirect/podns"
	"github.com/underlane/underlane/pkg/state"
)

// Datapath is the kernel side of the node (redirect.Datapath).
type Datapath interface {
	Enroll(w *mesh.Workload, ns *netns.NS) (*redirect.Pod, error)
	Shut(w *mesh.Workload, ns *netns.NS) error
	Update(w *mesh.Workload) error
	Withdraw(uid string)
	Repair() (repaired []string, err error)
	RemoveStale() (removed int, err error)
}

// Controller is the stream to the controller (control/client.Client).
type Controller interface {
	Connected() bool
	ReportPods(pods []control.PodStatus)
}

// Carrier carries the connections of the pods that are enrolled (carry.Carrier).
type Carrier interface {
	Carry(w *mesh.Workload, e *redirect.Pod)
	Update(w *mesh.Workload)
	Retire(e *redirect.Pod, withdraw func())
	SandboxEnded(uid string, cookie uint64)
	Leaving() []*mesh.Workload
	Closing() bool
}

// Options are what a Reconciler works with.
type Options struct {
	Store      *state.Store
	Controller Controller
	Certs      *mtls.Manager
	Finder     *podns.Finder
	Carrier    Carrier
	Log        *slog.Logger
}

// Reconciler takes this node's pods in and out as the state says: labelled ones are
// enrolled, the others are not. The container runtime tells of new sandboxes
// (Sandboxes) before their first container starts; everything else, and what the
// runtime did not tell, Run finds.
type Reconciler struct {
	Options
	datapath Datapath // set by Use

	// busy is held while pods are taken in and out, by Run or by the hook of a new
	// sandbox. It is a channel, for the hook has no time to wait for long. While
	// another agent has the node it is held, too (Pause).
	busy chan struct{}
	wake chan struct{} // has Run look again

	records

	repaired atomic.Uint64

	looked      chan struct{} // closed when the node's pods were looked at once
	lookedOnce  sync.Once
	settled     chan struct{} // closed when all of them were where they should be once
	settledOnce sync.Once
	inherited   map[string]uint32 // see Inherit
}

// New makes a Reconciler. Use must be called before Run.
func New(o Options) *Reconciler {
	return &Reconciler{
		Options: o, looked: make(chan struct{}), settled: make(chan struct{}),
		busy: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		records: records{pods: make(map[string]*pod), leftOut: make(map[string]*pod), announced: make(map[string]announced)},
	}
}

// Use says which datapath pods are enrolled in.
func (r *Reconciler) Use(d Datapath) { r.datapath = d }

// Inherit gives the connections from before the mesh, by a pod's UID, that an agent
// before this one counted. It must be called before Run.
func (r *Reconciler) Inherit(preMesh map[string]uint32) { r.inherited = preMesh }

// Pause waits until no pod is being enrolled or withdrawn, and keeps it so until
// Resume.
func (r *Reconciler) Pause() { r.busy <- struct{}{} }

// Resume undoes Pause.
func (r *Reconciler) Resume() { <-r.busy }

// Looked is closed when Run has looked at all of the node's pods once.
func (r *Reconciler) Looked() <-chan struct{} { return r.looked }

// Settled is closed when all of the node's pods were where they should be once.
func (r *Reconciler) Settled() <-chan struct{} { return r.settled }

// Repaired counts the kernel objects that another program had changed, and that
// were put right.
func (r *Reconciler) Repaired() uint64 { return r.repaired.Load() }

const (
	// retry is how often a pod that could not be enrolled is tried again.
	retry = 250 * time.Millisecond
	// drift is how often everything is looked at without a change.
	drift = 10 * time.Second
	// certificateWait bounds how long a pod waits for its certificate before
	// it is enrolled without.
	certificateWait = 5 * time.Second
	// unknownWait is how long a connected controller may take to know of a pod that
	// the runtime has announced.
	unknownWait = 10 * time.Second
)

// Run follows the state until ctx is done.
func (r *Reconciler) Run(ctx context.Context) error {
	changes, cancel := r.Store.Watch()
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var checked time.Time
	swept := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		case <-r.wake:
		case <-timer.C:
		}
		view := r.Store.View()
		if !view.Synced() {
			r.report()
			continue // pods of an earlier agent stay as they are
		}
		if anchors := view.Anchors(); anchors != nil {
			if err := r.Certs.SetAnchors(anchors); err != nil {
				r.Log.Error("trust anchors", "err", err)
			}
		}
		r.Pause()
		deep := time.Since(checked) >= drift
		settled := r.reconcile(view, deep)
		if deep {
			r.repair()
			checked = time.Now()
		}
		r.lookedOnce.Do(func() { close(r.looked) })
		if settled && !swept {
			swept = true
			if _, err := r.datapath.RemoveStale(); err != nil {
				r.Log.Error("forget pods of an earlier agent", "err", err)
			}
			r.settledOnce.Do(func() { close(r.settled) })
		}
		r.Resume()
		r.report()
		if settled {
			timer.Reset(drift)
		} else {
			timer.Reset(retry)
		}
	}
}

// reconcile makes the enrolled pods those that the view says. deep: it looks also at
// those that did not change. false: some could not be enrolled yet, and have to be
// tried again. busy is held.
func (r *Reconciler) reconcile(view *state.View, deep bool) (settled bool) {
	wanted, leftOut := r.unknown(view, r.Controller.Connected()), make(map[string]*mesh.Workload)
	identities := make(map[mesh.Identity]bool)
	for _, w := range view.Local() {
		switch {
		case w.LeftOut != "":
			leftOut[w.UID] = w
		case w.Meshed:
			// The certificate has to be there when the pod starts. A pod without an
			// address has not started: the runtime announces it when it does.
			identities[w.Identity] = true
			if len(w.Addrs) > 0 || r.has(w.UID) {
				wanted[w.UID] = w
			}
		}
	}
	r.withdraw(wanted)
	r.leaveOut(leftOut)
	for _, w := range r.Carrier.Leaving() {
		identities[w.Identity] = true
	}
	r.Certs.SetIdentities(slices.Collect(maps.Keys(identities)))
	settled = true
	for _, w := range wanted {
		settled = r.settle(w, deep) && settled
	}
	return settled
}

func (r *Reconciler) leaveOut(list map[string]*mesh.Workload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid := range r.leftOut {
		if list[uid] == nil {
			delete(r.leftOut, uid)
		}
	}
	for uid, w := range list {
		have := r.leftOut[uid]
		if have == nil {
			have = &pod{state: nodeapi.PodLeftOut, since: time.Now()}
			r.leftOut[uid] = have
			r.Log.Info("labelled pod is left out", "pod", w.Namespace+"/"+w.Name, "reason", w.LeftOut)
		}
		have.workload, have.reason = w, w.LeftOut
	}
}

// withdraw takes out the pods that are not wanted any more.
func (r *Reconciler) withdraw(wanted map[string]*mesh.Workload) {
	gone := make(map[string]*pod)
	r.mu.RLock()
	for uid, have := range r.pods {
		if wanted[uid] == nil {
			gone[uid] = have
		}
	}
	r.mu.RUnlock()
	for uid, have := range gone {
		e := r.retire(have)
		if e == nil {
			r.datapath.Withdraw(uid) // it may be shut
		}
		// Not before: until the kernel sends no more, what comes is the pod's, and
		// the pod has left only then.
		r.mu.Lock()
		delete(r.pods, uid)
		r.mu.Unlock()
		if e != nil {
			r.Log.Info("pod left the mesh", "pod", e.Name)
		}
	}
}

// retire takes a pod out of the kernel; the connections that it has live on.
// nil: it was not enrolled.
func (r *Reconciler) retire(have *pod) *redirect.Pod {
	r.mu.Lock()
	e := have.enrolled
	if e != nil {
		have.enrolled, have.preMesh, have.shut = nil, 0, false
	}
	r.mu.Unlock()
	if e != nil {
		r.Carrier.Retire(e, func() { r.datapath.Withdraw(e.UID) })
	}
	return e
}

// setWorkload changes what is known of a pod. mu is held.
func (r *Reconciler) setWorkload(have *pod, w *mesh.Workload) {
	have.workload = w
	if have.enrolled != nil {
		r.Carrier.Update(w)
	}
}
