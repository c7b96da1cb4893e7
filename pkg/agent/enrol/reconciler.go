// Package enrol enrols the node's pods that belong to the mesh. It learns of them from
// the controller's state and from the container runtime.
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

// Reconciler enrols and withdraws this node's pods by the state: labelled pods are
// enrolled, the others are not. The container runtime announces a new sandbox
// (Sandboxes) before its first container starts. Run does everything else, also for
// pods that the runtime did not announce.
//
// It embeds enroller, which acts on one pod, and decides when that is done.
type Reconciler struct {
	enroller

	// busy is a lock that Run and the hook of a new sandbox hold while they enrol and
	// withdraw pods. It is a channel because the hook must give up after its time
	// limit. While another agent has the node, Pause holds it.
	busy chan struct{}
	wake chan struct{} // wakes Run

	repaired     atomic.Uint64
	broken       atomic.Bool // set by RepairSoon
	repairedAt   time.Time   // of the last repair
	repairLogged time.Time   // of the last one that was logged as a warning

	reconciled     chan struct{} // closed when Run has reconciled once
	reconciledOnce sync.Once
	settled        chan struct{} // closed when all wanted pods were enrolled once
	settledOnce    sync.Once
}

// enroller enrols and withdraws pods, and records what it has done (settle.go). Its caller
// holds Reconciler.busy.
type enroller struct {
	Options
	datapath Datapath // set by Use
	records
	inherited map[string]uint32 // see Inherit
}

// New makes a Reconciler. Use must be called before Run.
func New(o Options) *Reconciler {
	r := &Reconciler{
		reconciled: make(chan struct{}), settled: make(chan struct{}),
		busy: make(chan struct{}, 1), wake: make(chan struct{}, 1),
	}
	r.Options = o
	r.records = records{pods: make(map[string]*pod), leftOut: make(map[string]*pod), announced: make(map[string]announced)}
	return r
}

// Use sets the datapath in which pods are enrolled.
func (r *enroller) Use(d Datapath) { r.datapath = d }

// Inherit sets the counts, by pod UID, of connections that were open before the pod was
// enrolled, as the previous agent counted them. It must be called before Run.
func (r *enroller) Inherit(preMesh map[string]uint32) { r.inherited = preMesh }

// Pause waits until no pod is being enrolled or withdrawn, and prevents it until Resume.
func (r *Reconciler) Pause() { r.busy <- struct{}{} }

// Resume undoes Pause.
func (r *Reconciler) Resume() { <-r.busy }

// Reconciled returns a channel that is closed when Run has reconciled all of the node's pods
// once.
func (r *Reconciler) Reconciled() <-chan struct{} { return r.reconciled }

// Settled returns a channel that is closed when all of the node's wanted pods were
// enrolled once.
func (r *Reconciler) Settled() <-chan struct{} { return r.settled }

// Repaired counts the kernel objects that another program had changed and that were
// restored.
func (r *Reconciler) Repaired() uint64 { return r.repaired.Load() }

// RepairSoon makes Run check the kernel's objects soon, because another program has changed
// some of them.
func (r *Reconciler) RepairSoon() {
	r.broken.Store(true)
	r.Wake()
}

const (
	// repairPause is the least time between two repairs, and repairQuiet between two
	// warnings about them: a pod may break its listeners again and again.
	repairPause = 500 * time.Millisecond
	repairQuiet = 10 * time.Second
	// retry is how often a pod that could not be enrolled is tried again.
	retry = 250 * time.Millisecond
	// drift is how often everything is checked without a change of the state.
	drift = 10 * time.Second
	// certificateWait bounds how long a pod waits for its certificate before it is
	// enrolled without one.
	certificateWait = 5 * time.Second
	// unknownWait is how long a connected controller may take to send a pod that the
	// runtime has announced.
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
			continue // pods that an earlier agent enrolled stay as they are
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
			checked = time.Now()
		}
		if deep || r.broken.Load() && time.Since(r.repairedAt) >= repairPause {
			r.broken.Store(false)
			r.repair()
		}
		r.reconciledOnce.Do(func() { close(r.reconciled) })
		if settled && !swept {
			swept = true
			if _, err := r.datapath.RemoveStale(); err != nil {
				r.Log.Error("forget pods of an earlier agent", "err", err)
			}
			r.settledOnce.Do(func() { close(r.settled) })
		}
		r.Resume()
		r.report()
		switch {
		case !settled:
			timer.Reset(retry)
		case r.broken.Load():
			timer.Reset(repairPause)
		default:
			timer.Reset(drift)
		}
	}
}

// reconcile enrols and withdraws pods by the view. If deep is set, it also checks the
// pods that did not change. It returns false if some pods could not be enrolled yet: the
// caller must try again. The caller holds busy.
func (r *Reconciler) reconcile(view *state.View, deep bool) (settled bool) {
	wanted, leftOut := r.unknown(view, r.Controller.Connected()), make(map[string]*mesh.Workload)
	identities := make(map[mesh.Identity]bool)
	for _, w := range view.Local() {
		switch {
		case w.LeftOut != "":
			leftOut[w.UID] = w
		case w.Meshed:
			// Request the certificate before the pod starts. A pod without an address
			// has not started: the runtime announces it when it starts.
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

func (r *enroller) leaveOut(list map[string]*mesh.Workload) {
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

// withdraw withdraws the pods that are no longer wanted.
func (r *enroller) withdraw(wanted map[string]*mesh.Workload) {
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
			r.datapath.Withdraw(uid) // the pod may be shut
		}
		// Delete the record last: until the kernel steers no more connections here,
		// connections of the pod arrive.
		r.mu.Lock()
		delete(r.pods, uid)
		r.mu.Unlock()
		if e != nil {
			r.Log.Info("pod left the mesh", "pod", e.Name)
		}
	}
}

// retire withdraws a pod from the datapath. Its open connections continue. It returns
// nil if the pod was not enrolled.
func (r *enroller) retire(have *pod) *redirect.Pod {
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

// setWorkload replaces the workload of a pod. The caller holds mu.
func (r *enroller) setWorkload(have *pod, w *mesh.Workload) {
	have.workload = w
	if have.enrolled != nil {
		r.Carrier.Update(w)
	}
}
