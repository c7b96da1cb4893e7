package enrol

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/agent/nri"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect/netns"
)

const (
	// enrolTime is the part of a hook's time that is reserved for the enrolment itself.
	// The hook waits for state and certificate only until then.
	enrolTime = 300 * time.Millisecond
	pollEvery = 20 * time.Millisecond
)

var errHostNetwork = errors.New("it is on the host's network")

// Sandboxes enrols pods when the container runtime announces them. It implements
// nri.Handler.
type Sandboxes struct {
	Node string // this node's name
	Proc string // proc file system of the host

	r      *Reconciler
	counts map[nri.Outcome]*atomic.Uint64 // since the agent started
}

// NewSandboxes makes the handler of a node's sandboxes.
func NewSandboxes(r *Reconciler, node, proc string) *Sandboxes {
	s := &Sandboxes{Node: node, Proc: proc, r: r, counts: make(map[nri.Outcome]*atomic.Uint64)}
	for _, o := range nri.Outcomes {
		s.counts[o] = new(atomic.Uint64)
	}
	return s
}

// Counts returns the number of announced sandboxes by outcome.
func (s *Sandboxes) Counts() map[string]uint64 {
	counts := make(map[string]uint64, len(s.counts))
	for outcome, n := range s.counts {
		counts[string(outcome)] = n.Load()
	}
	return counts
}

// RunSandbox implements nri.Handler: it enrols a pod of the mesh before its first
// container starts.
func (s *Sandboxes) RunSandbox(ctx context.Context, box nri.Sandbox) {
	start := time.Now()
	outcome, err := s.Enrol(ctx, box)
	s.counts[outcome].Add(1)
	log := s.r.Log.With("pod", box.Namespace+"/"+box.Name, "took", time.Since(start).Round(time.Millisecond))
	switch outcome {
	case nri.Late:
		log.Warn("a pod starts before it is known whether it is of the mesh", "cause", err)
	case nri.Failed:
		log.Warn("a pod starts before it is enrolled", "cause", err)
	default:
		log.Debug("new sandbox", "outcome", outcome)
	}
	if outcome == nri.Enrolled {
		s.r.report()
	}
	s.r.Wake()
}

// Enrol enrols the pod of a sandbox if it belongs to the mesh. The error is the cause of
// the outcomes Late and Failed.
func (s *Sandboxes) Enrol(ctx context.Context, box nri.Sandbox) (nri.Outcome, error) {
	label := box.Labels[mesh.LabelMesh]
	if label == mesh.LabelDisabled || label == mesh.LabelObserve || box.Netns == "" {
		return nri.Unlabeled, nil // "" netns: the pod is on the host's network
	}
	limit := time.Now().Add(time.Second)
	if deadline, ok := ctx.Deadline(); ok {
		limit = deadline.Add(-enrolTime)
	}
	waiting, cancel := context.WithDeadline(ctx, limit)
	defer cancel()
	w, err := s.await(waiting, box.UID)
	from := namespaceOf(s.r.Store.View(), box.Namespace)
	labelled := label == mesh.LabelEnabled || from.labelled
	switch {
	case err != nil && !labelled && !s.r.Controller.Connected():
		return nri.Unlabeled, nil
	case err != nil && !labelled:
		return nri.Late, err
	case err != nil:
		w = s.unconfirmed(box, from)
	case !w.Meshed:
		return nri.Unlabeled, nil
	}
	for err == nil && !Certified(s.r.Certs, w.Identity) && waiting.Err() == nil {
		time.Sleep(pollEvery) // after the wait it is enrolled also without a certificate
	}
	if err := s.enrolSandbox(ctx, w, box); err != nil {
		return nri.Failed, err
	}
	return nri.Enrolled, nil
}

// await waits until the state has the pod. It fails at once if the agent is not
// connected to the controller.
func (s *Sandboxes) await(ctx context.Context, uid string) (*mesh.Workload, error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if w, ok := s.r.Store.View().WorkloadByUID(uid); ok {
			return w, nil
		}
		if !s.r.Controller.Connected() {
			return nil, errors.New("the controller is away")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errors.New("the controller has not told of it")
		}
	}
}

func (s *Sandboxes) enrolSandbox(ctx context.Context, w *mesh.Workload, box nri.Sandbox) error {
	ns, err := s.openSandbox(box)
	if err != nil {
		return err
	}
	addrs := box.Addrs
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
	// The state may still have the addresses of the pod's previous sandbox.
	fresh := *w
	fresh.Addrs = addrs
	select {
	case s.r.busy <- struct{}{}:
		defer func() { <-s.r.busy }()
	case <-ctx.Done():
		closeNS(ns)
		return errors.New("the agent was busy with other pods")
	}
	return s.r.take(w, &fresh, ns)
}

// openSandbox opens a sandbox's namespace through a process in it, or by its path on the
// host, which in a container is reached through the root directory of process 1.
func (s *Sandboxes) openSandbox(box nri.Sandbox) (*netns.NS, error) {
	proc := s.Proc
	paths := []string{filepath.Join(proc, "1/root", box.Netns), box.Netns}
	if box.PID != 0 {
		paths = append([]string{filepath.Join(proc, strconv.FormatUint(uint64(box.PID), 10), "ns/net")}, paths...)
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

// StopSandbox implements nri.Handler. It ends the pod's connections while its network
// can still carry the resets. It forgets a pod that only the runtime has announced.
// Other pods stay enrolled until the state does not have them any more, or until they
// get another sandbox. If the namespace is gone already, the connections end when the
// state removes the pod.
func (s *Sandboxes) StopSandbox(box nri.Sandbox) {
	if ns, err := s.openSandbox(box); err == nil {
		s.r.Carrier.SandboxEnded(box.UID, ns.Cookie())
		closeNS(ns)
	}
	s.r.mu.Lock()
	_, ok := s.r.announced[box.UID]
	delete(s.r.announced, box.UID)
	s.r.mu.Unlock()
	if ok {
		s.r.Wake()
	}
}
