package agent

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"time"

	"github.com/underlane/underlane/pkg/agent/nodeapi"
	"github.com/underlane/underlane/pkg/agent/nri"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect/netns"
)

const (
	// enrolTime is what is kept of a hook's time for the enrolment itself: what
	// is waited for must come before.
	enrolTime = 300 * time.Millisecond
	pollEvery = 20 * time.Millisecond
)

var errHostNetwork = errors.New("it is on the host's network")

// RunSandbox implements nri.Handler: it enrols a pod of the mesh before its first
// container starts.
func (p *pods) RunSandbox(ctx context.Context, s nri.Sandbox) {
	start := time.Now()
	outcome, err := p.runSandbox(ctx, s)
	p.counts.sandboxes[outcome].Add(1)
	log := p.agent.log.With("pod", s.Namespace+"/"+s.Name, "took", time.Since(start).Round(time.Millisecond))
	switch outcome {
	case nri.Late:
		log.Warn("a pod starts before it is known whether it is of the mesh", "cause", err)
	case nri.Failed:
		log.Warn("a pod starts before it is enrolled", "cause", err)
	default:
		log.Debug("new sandbox", "outcome", outcome)
	}
	if outcome == nri.Enrolled {
		p.report()
	}
	p.look()
}

// look has the loop look at everything soon.
func (p *pods) look() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *pods) runSandbox(ctx context.Context, s nri.Sandbox) (nri.Outcome, error) {
	label := s.Labels[mesh.LabelMesh]
	if label == mesh.LabelDisabled || s.Netns == "" {
		return nri.Unlabeled, nil // on the host's network it is left out
	}
	limit := time.Now().Add(time.Second)
	if deadline, ok := ctx.Deadline(); ok {
		limit = deadline.Add(-enrolTime)
	}
	waiting, cancel := context.WithDeadline(ctx, limit)
	defer cancel()
	w, err := p.await(waiting, s.UID)
	switch {
	case err != nil && label != mesh.LabelEnabled && !p.agent.client.Connected():
		return nri.Unlabeled, nil // its namespace may be labelled: who could tell
	case err != nil && label != mesh.LabelEnabled:
		return nri.Late, err
	case err != nil:
		w = p.fromLabel(s)
	case !w.Meshed:
		return nri.Unlabeled, nil
	}
	for err == nil && !p.certified(w.Identity) && waiting.Err() == nil {
		time.Sleep(pollEvery) // without one it is enrolled all the same
	}
	if err := p.enrolSandbox(ctx, w, s); err != nil {
		return nri.Failed, err
	}
	return nri.Enrolled, nil
}

// await waits until the state has the pod; not at all while nobody could tell of it.
func (p *pods) await(ctx context.Context, uid string) (*mesh.Workload, error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if w, ok := p.agent.store.View().WorkloadByUID(uid); ok {
			return w, nil
		}
		if !p.agent.client.Connected() {
			return nil, errors.New("the controller is away")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.New("the controller has not told of it")
		}
	}
}

// fromLabel makes what can be known of a pod without the controller: it has no
// identity before that is back.
func (p *pods) fromLabel(s nri.Sandbox) *mesh.Workload {
	w := &mesh.Workload{
		UID: s.UID, Name: s.Name, Namespace: s.Namespace, Node: p.agent.config.Node,
		OwnerKind: "pod", OwnerName: s.Name, Meshed: true,
	}
	if s.Annotations[mesh.AnnotationPolicy] == mesh.PolicyStrict.String() {
		w.Settings.Policy = mesh.PolicyStrict
	}
	w.Settings.FailClosed = s.Annotations[mesh.AnnotationFailMode] == "closed"
	return w
}

func (p *pods) enrolSandbox(ctx context.Context, w *mesh.Workload, s nri.Sandbox) error {
	ns, err := p.openSandbox(s)
	if err != nil {
		return err
	}
	addrs := s.Addrs
	if len(addrs) == 0 {
		if addrs, err = ns.Addresses(); err != nil {
			closeNS(ns)
			return err
		}
	}
	if len(addrs) == 0 {
		closeNS(ns)
		return errors.New("it has no address")
	}
	// The state may still have the addresses of the sandbox before.
	fresh := *w
	fresh.Addrs = addrs
	select {
	case p.busy <- struct{}{}:
		defer func() { <-p.busy }()
	case <-ctx.Done():
		closeNS(ns)
		return errors.New("the agent was busy with other pods")
	}
	return p.take(w, &fresh, ns)
}

// take enrols a pod from a sandbox that the runtime told of. busy is held.
func (p *pods) take(w, fresh *mesh.Workload, ns *netns.NS) error {
	p.mu.Lock()
	have := p.pods[w.UID]
	if have == nil {
		have = &pod{state: nodeapi.PodPending, since: time.Now()}
		p.pods[w.UID] = have
	}
	if have.enrolled != nil && have.enrolled.Cookie() == ns.Cookie() {
		p.mu.Unlock()
		closeNS(ns)
		return nil
	}
	if _, known := p.agent.store.View().WorkloadByUID(w.UID); !known {
		p.told[w.UID] = told{workload: fresh, since: time.Now()}
	}
	p.mu.Unlock()
	p.retire(have)
	p.mu.Lock()
	have.source, have.workload = w, fresh
	p.mu.Unlock()
	if !p.enrol(have, ns) {
		return errors.New(have.reason)
	}
	return nil
}

// openSandbox opens a sandbox's namespace: by a process in it, or by the host's
// path, which is not ours in a container.
func (p *pods) openSandbox(s nri.Sandbox) (*netns.NS, error) {
	proc := p.agent.config.Proc
	paths := []string{filepath.Join(proc, "1/root", s.Netns), s.Netns}
	if s.PID != 0 {
		paths = append([]string{filepath.Join(proc, strconv.FormatUint(uint64(s.PID), 10), "ns/net")}, paths...)
	}
	var failures []error
	for _, path := range paths {
		ns, err := netns.Open(path)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		if own, err := netns.IsOwn(ns); err != nil || own {
			closeNS(ns)
			failures = append(failures, errors.Join(err, errHostNetwork))
			continue
		}
		return ns, nil
	}
	return nil, errors.Join(failures...)
}

// StopSandbox implements nri.Handler: a pod that only the runtime told of has
// ended. Others end when the controller says so.
func (p *pods) StopSandbox(uid string) {
	p.mu.Lock()
	_, ok := p.told[uid]
	delete(p.told, uid)
	p.mu.Unlock()
	if ok {
		p.look()
	}
}
