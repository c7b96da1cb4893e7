package agent

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/agent/nodeapi"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/redirect/podns"
	"github.com/underlane/underlane/pkg/state"
)

// pods takes this node's pods in and out as the state says: labelled ones are
// enrolled, the others are not. It also is the proxy's way into their
// namespaces. The container runtime tells of new sandboxes (sandbox.go), before
// their first container starts; everything else, and whatever the runtime did
// not tell, the reconcile loop finds.
type pods struct {
	agent  *Agent
	finder *podns.Finder
	// busy is held by whoever takes pods in and out: the loop, or the hook of a
	// new sandbox. A channel, for the hook has no time to wait for long. While
	// another agent has the node nobody is let at them.
	busy chan struct{}
	wake chan struct{} // has the loop look again

	mu   sync.RWMutex
	pods map[string]*pod // by UID
	// leftOut are labelled pods that cannot be meshed.
	leftOut map[string]*pod
	// told are pods that the runtime told of and the controller has not: their
	// own label says that they are to be enrolled.
	told map[string]told
	// byCookie finds the pod of a kernel event.
	byCookie map[uint64]*pod
	// leaving are pods that were taken out: the connections that they have are
	// served to their end.
	leaving map[*redirect.Pod]*leaving
	counts  *podCounts

	closing atomic.Bool // the listeners are closed, or are about to be
	shared  atomic.Bool // the node is being handed over, to this agent or from it

	looked      chan struct{} // closed when the node's pods were looked at once
	lookedOnce  sync.Once
	settled     chan struct{} // closed when all of them were where they should be once
	settledOnce sync.Once
	inherited   map[string]uint32 // by UID, the connections from before the mesh that an agent before this one counted
}

type leaving struct {
	workload  *mesh.Workload
	lingering bool // the listeners are open still
	open      int  // connections carried now
}

type told struct {
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
	preMesh  uint32
	enrolled *redirect.Pod // nil unless state is PodEnrolled
	shut     bool          // closed until it is enrolled; busy is held
	open     int           // connections carried now
}

func newPods(a *Agent, finder *podns.Finder) *pods {
	return &pods{
		agent: a, finder: finder, looked: make(chan struct{}), settled: make(chan struct{}),
		busy: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		pods: make(map[string]*pod), leftOut: make(map[string]*pod), told: make(map[string]told),
		byCookie: make(map[uint64]*pod), leaving: make(map[*redirect.Pod]*leaving),
		counts: newPodCounts(),
	}
}

const (
	// retry is how often a pod that could not be enrolled is tried again.
	retry = 250 * time.Millisecond
	// drift is how often everything is looked at without a change.
	drift = 10 * time.Second
	// certificateWait bounds how long a pod waits for its certificate before
	// it is enrolled without.
	certificateWait = 5 * time.Second
	// linger is how long a pod that was taken out still has its listeners, for
	// connections whose handshake was under way.
	linger = 2 * time.Second
	// unknownWait is how long a connected controller may take to tell of a pod
	// that the runtime told of.
	unknownWait = 10 * time.Second
)

// run follows the state until ctx is done.
func (p *pods) run(ctx context.Context) error {
	changes, cancel := p.agent.store.Watch()
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
		case <-p.wake:
		case <-timer.C:
		}
		view := p.agent.store.View()
		if !view.Synced() {
			p.report()
			continue // pods of an earlier agent stay as they are
		}
		if anchors := view.Anchors(); anchors != nil {
			if err := p.agent.certs.SetAnchors(anchors); err != nil {
				p.agent.log.Error("trust anchors", "err", err)
			}
		}
		p.busy <- struct{}{}
		deep := time.Since(checked) >= drift
		settled := p.reconcile(view, deep)
		if deep {
			p.repair()
			checked = time.Now()
		}
		p.lookedOnce.Do(func() { close(p.looked) })
		if settled && !swept {
			swept = true
			if _, err := p.agent.datapath.RemoveStale(); err != nil {
				p.agent.log.Error("forget pods of an earlier agent", "err", err)
			}
			p.settledOnce.Do(func() { close(p.settled) })
		}
		<-p.busy
		p.report()
		if settled {
			timer.Reset(drift)
		} else {
			timer.Reset(retry)
		}
	}
}

// reconcile makes the enrolled pods those that the view says. deep: looks also
// at those of which nothing changed. False: some are not there yet, and are to
// be tried again. busy is held.
func (p *pods) reconcile(view *state.View, deep bool) (settled bool) {
	wanted, leftOut := p.unknown(view), make(map[string]*mesh.Workload)
	identities := make(map[mesh.Identity]bool)
	for _, w := range view.Local() {
		switch {
		case w.LeftOut != "":
			leftOut[w.UID] = w
		case w.Meshed:
			// The certificate is to be there when the pod starts. One without an
			// address is scheduled and has not: the runtime tells when it does.
			identities[w.Identity] = true
			if len(w.Addrs) > 0 || p.has(w.UID) {
				wanted[w.UID] = w
			}
		}
	}
	p.withdraw(wanted)
	p.leaveOut(leftOut)
	p.mu.RLock()
	for _, l := range p.leaving {
		identities[l.workload.Identity] = true
	}
	p.mu.RUnlock()
	p.agent.certs.SetIdentities(keys(identities))
	settled = true
	for _, w := range wanted {
		settled = p.settle(w, deep) && settled
	}
	return settled
}

func (p *pods) has(uid string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.pods[uid] != nil
}

// unknown returns the pods that the runtime told of and the view does not know
// yet, and forgets those that it ought to know by now.
func (p *pods) unknown(view *state.View) map[string]*mesh.Workload {
	list := make(map[string]*mesh.Workload)
	connected := p.agent.client.Connected()
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid, t := range p.told {
		if _, known := view.WorkloadByUID(uid); known || (connected && time.Since(t.since) > unknownWait) {
			delete(p.told, uid)
			continue
		}
		list[uid] = t.workload
	}
	return list
}

func (p *pods) leaveOut(list map[string]*mesh.Workload) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid := range p.leftOut {
		if list[uid] == nil {
			delete(p.leftOut, uid)
		}
	}
	for uid, w := range list {
		have := p.leftOut[uid]
		if have == nil {
			have = &pod{state: nodeapi.PodLeftOut, since: time.Now()}
			p.leftOut[uid] = have
			p.agent.log.Info("labelled pod is left out", "pod", w.Namespace+"/"+w.Name, "reason", w.LeftOut)
		}
		have.workload, have.reason = w, w.LeftOut
	}
}

func keys[K comparable](set map[K]bool) []K {
	list := make([]K, 0, len(set))
	for k := range set {
		list = append(list, k)
	}
	return list
}

// withdraw takes out the pods that are not wanted any more.
func (p *pods) withdraw(wanted map[string]*mesh.Workload) {
	gone := make(map[string]*pod)
	p.mu.RLock()
	for uid, have := range p.pods {
		if wanted[uid] == nil {
			gone[uid] = have
		}
	}
	p.mu.RUnlock()
	for uid, have := range gone {
		e := p.retire(have)
		if e == nil {
			p.agent.datapath.Withdraw(uid) // it may be shut
		}
		// Not before: what comes until the kernel sends no more is a pod's, and
		// whoever asks hears that the pod has left when it has.
		p.mu.Lock()
		delete(p.pods, uid)
		p.mu.Unlock()
		if e != nil {
			p.agent.log.Info("pod left the mesh", "pod", e.Name)
		}
	}
}

// retire takes a pod out of the kernel; the connections that it has live on.
// Nil: it was not enrolled.
func (p *pods) retire(have *pod) *redirect.Pod {
	p.mu.Lock()
	e := have.enrolled
	if e != nil {
		delete(p.byCookie, e.Cookie())
		e.Hold() // until it has lingered
		p.leaving[e] = &leaving{workload: have.workload, lingering: true, open: have.open}
		have.enrolled, have.open, have.preMesh, have.shut = nil, 0, 0, false
	}
	p.mu.Unlock()
	if e != nil {
		p.agent.datapath.Withdraw(have.workload.UID)
		time.AfterFunc(linger, func() { p.lingered(e) })
	}
	return e
}

// lingered ends the listeners of a pod that was taken out.
func (p *pods) lingered(e *redirect.Pod) {
	e.CloseListeners()
	defer e.Release()
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := p.leaving[e]; l != nil {
		l.lingering = false
		p.leave(e, l)
	}
}

// leave forgets a pod that was taken out once nothing of it is left. mu is held.
func (p *pods) leave(e *redirect.Pod, l *leaving) {
	if l.open == 0 && !l.lingering {
		delete(p.leaving, e)
	}
}
