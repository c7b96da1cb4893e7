package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/underlane/underlane/pkg/agent/carry"
	"github.com/underlane/underlane/pkg/agent/enrol"
	"github.com/underlane/underlane/pkg/agent/handover"
	"github.com/underlane/underlane/pkg/agent/nodeapi"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

const (
	// warmUpLimit bounds how long a new agent that has a controller waits for
	// certificates before it asks for the node.
	warmUpLimit = 10 * time.Second
	warmUpPoll  = 20 * time.Millisecond
	// knowLimit bounds how long a new agent waits for the controller's answers about the
	// addresses that are in use.
	knowLimit = 2 * time.Second
	// releaseLimit bounds how long a predecessor may take to release the node.
	releaseLimit = 10 * time.Second
	// takeLimit bounds how long a new agent waits for pods that cannot be enrolled
	// before it tells the predecessor to end.
	takeLimit = 10 * time.Second
	// awaitLimit is how long a stopped agent waits for a successor that is getting ready
	// and has not asked for the node yet. Both agents share the node's ports, so
	// Kubernetes may interpret answers of the old agent as readiness of the new one and
	// stop the old one early. The pod's grace period covers awaitLimit, yieldLimit and
	// the drain.
	awaitLimit = 30 * time.Second
	// yieldLimit is how long a stopped agent waits for a successor that is taking the
	// node.
	yieldLimit = 8 * time.Second
)

// handoverPath is the socket where a successor asks for the node.
func (c *Config) handoverPath() string {
	return strings.TrimSuffix(c.Socket, ".sock") + "-handover.sock"
}

// predecessor connects to the agent that has the node. It returns nil if there is none,
// or if this agent is not configured to take over.
func (a *Agent) predecessor() (*handover.Predecessor, error) {
	if !a.config.TakeOver {
		return nil, nil
	}
	p, err := handover.Find(a.config.handoverPath())
	if p != nil {
		a.log.Info("an agent has the node: getting ready to take over")
	}
	return p, err
}

// claimSocket makes the node API's socket. An agent that takes over waits while another
// agent has the socket: that one cannot hand over, so it is about to end.
func (a *Agent) claimSocket(ctx context.Context) (net.Listener, error) {
	announced := false
	for {
		ln, err := nodeapi.Listen(a.config.Socket)
		if !a.config.TakeOver || !errors.Is(err, nodeapi.ErrInUse) {
			return ln, err
		}
		if !announced {
			announced = true
			a.log.Warn("waiting for the running agent to end: it cannot hand the node over", "socket", a.config.Socket)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// warmUp waits for the node's state and its pods' certificates while the predecessor
// still has the node. The limit counts only while a controller answers: without one, the
// predecessor serves the pods better than an agent without state.
func (a *Agent) warmUp(ctx context.Context, p *handover.Predecessor) {
	began := time.Now()
	limit := began.Add(warmUpLimit)
	tick := time.NewTicker(warmUpPoll)
	defer tick.Stop()
	for view := a.store.View(); !view.Synced() || !a.prepared(view); view = a.store.View() {
		if !view.Synced() || !a.client.Connected() {
			limit = time.Now().Add(warmUpLimit)
		}
		if time.Now().After(limit) || p.Gone() {
			a.log.Warn("taking over without all state and certificates", "after", time.Since(began).Round(time.Millisecond))
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	a.log.Info("ready to take over", "after", time.Since(began).Round(time.Millisecond))
}

// prepared requests the certificates of the node's pods, and reports whether all of them
// were issued.
func (a *Agent) prepared(view *state.View) bool {
	if anchors := view.Anchors(); anchors == nil || a.certs.SetAnchors(anchors) != nil {
		return false
	}
	identities := make(map[mesh.Identity]bool)
	for _, w := range view.Local() {
		if w.Meshed {
			identities[w.Identity] = true
		}
	}
	a.certs.SetIdentities(slices.Collect(maps.Keys(identities)))
	for id := range identities {
		if !enrol.Certified(a.certs, id) {
			return false
		}
	}
	return true
}

// succeed asks the predecessor to release what only one agent may hold. A predecessor
// that does not answer is ending or has ended, and listen waits for its socket.
func (a *Agent) succeed(ctx context.Context, p *handover.Predecessor) {
	ctx, cancel := context.WithTimeout(ctx, releaseLimit)
	defer cancel()
	last, err := p.Release(ctx)
	if err != nil {
		a.log.Warn("the node is not handed over", "cause", err)
	}
	if err == nil && !p.KernelPaths() {
		// It has none that would have to be judged, and would not judge those of this agent if
		// it had to take the node back.
		a.pathsAfter = make(chan struct{})
	}
	a.pods.Inherit(last.PreMesh)
	a.network.SetShared(err == nil)
	a.know(ctx, last.Addresses)
}

// know waits for the controller's answers about addrs, because an address without an
// answer counts as outside the mesh.
func (a *Agent) know(ctx context.Context, addrs []netip.Addr) {
	ctx, cancel := context.WithTimeout(ctx, knowLimit)
	defer cancel()
	for _, addr := range addrs {
		a.client.Subscribe(addr)
	}
	for _, addr := range addrs {
		if err := a.client.Resolve(ctx, addr); err != nil {
			a.log.Warn("not all that pods connect to is known yet", "cause", err)
			return
		}
	}
}

// tellTaken tells the predecessor to close its listeners, when the pods' new connections
// come to this agent.
func (a *Agent) tellTaken(p *handover.Predecessor) {
	select {
	case <-a.pods.Settled():
	case <-time.After(takeLimit):
	}
	a.network.SetShared(false)
	if err := p.Taken(); err != nil {
		a.log.Info("the agent before this one has ended already", "cause", err)
	}
	if a.pathsAfter != nil {
		close(a.pathsAfter)
	}
}

// yield gives the node to a successor. This agent carries traffic meanwhile. It returns
// false if the successor ended before it had the node.
func (a *Agent) yield(ctx context.Context, s *handover.Successor) bool {
	a.log.Info("another agent takes the node over")
	a.network.SetShared(true)
	// Wait for a hook of the container runtime that is enrolling a pod. Until takeBack
	// no hook can enrol one.
	a.pods.Pause()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(yieldLimit, s.Close) })
	defer stop()
	if !s.KernelPaths() {
		// While both have programs, this agent carries all new connections.
		a.paths.Withdraw()
	}
	err := a.datapath.Yield()
	if err == nil {
		err = s.Released(handover.State{PreMesh: a.pods.PreMesh(), Addresses: a.client.InUse(handover.MaxAddresses)})
	}
	if err == nil {
		err = s.Taken()
	}
	if err != nil {
		a.log.Warn("the agent that was to take the node over has not", "cause", err)
		s.Close()
	}
	return err == nil
}

// takeBack takes the node again after the successor has ended too early.
func (a *Agent) takeBack(ctx context.Context) error {
	if err := a.listen(ctx); errors.Is(err, nodeapi.ErrInUse) {
		return err
	} else if err != nil {
		a.log.Warn("not all is served yet beside the traffic", "err", err)
	}
	repaired, err := a.datapath.Resume(ctx)
	a.pods.Resume()
	a.network.SetShared(false)
	a.log.Info("carrying on", "repaired", repaired)
	if err != nil {
		return errors.Join(err, a.unlisten())
	}
	return nil
}

// retire drains an agent that has a successor. It then waits until the agent is stopped:
// if the process ended by itself, its container would be restarted and would take the
// node over again. It returns an error if the successor ends first, so that the container
// is restarted.
func (a *Agent) retire(ctx context.Context, life *parts, s *handover.Successor) error {
	defer s.Close()
	a.proxy.Retire()
	a.datapath.LetGo()
	// Connections whose TCP handshake is under way still arrive at the old listeners.
	time.Sleep(carry.Linger)
	a.shutdown()
	life.end()
	if err := a.datapath.Close(); err != nil {
		return err
	}
	a.log.Info("the node is another agent's: waiting to be stopped")
	stop := context.AfterFunc(ctx, s.Close)
	defer stop()
	s.Ended()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("the agent that took the node over has ended: this one must start anew")
}
