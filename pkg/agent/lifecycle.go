package agent

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/agent/handover"
	"github.com/underlane/underlane/pkg/agent/nodeapi"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/telemetry"
)

// run runs the agent until ctx is done or a part fails. It begins as the only agent of
// the node, or takes the node over.
func (a *Agent) run(ctx context.Context) error {
	failed := make(chan error, 16)
	// life ends last, after the pods' traffic was drained.
	life := newParts(ctx, failed)
	defer life.end()
	a.tryRedirects()
	predecessor, err := a.predecessor()
	if err != nil {
		return err
	}
	if predecessor != nil {
		defer predecessor.Close()
		a.live(life)
		a.warmUp(ctx, predecessor)
		if ctx.Err() != nil {
			return nil // this agent has not asked for the node yet: the predecessor continues
		}
		a.succeed(ctx, predecessor)
	}
	// listen comes first: here a second agent ends, before it changes anything in the
	// kernel.
	if err := a.listen(ctx); err != nil {
		return err
	}
	if err := a.load(); err != nil {
		return errors.Join(err, a.unlisten())
	}
	a.confine()
	if predecessor == nil {
		a.live(life)
	} else {
		go a.tellTaken(predecessor)
	}
	a.log.Info("agent runs", "node", a.config.Node, "controller", a.config.Controller, "pins", a.config.PinRoot)
	yielded := false
	for {
		work := newParts(ctx, failed)
		a.work(work)
		var successor *handover.Successor
		select {
		case <-ctx.Done():
			successor = a.successors.Await(awaitLimit)
		case err = <-failed:
		case successor = <-a.successors.Asked():
		}
		if successor == nil {
			yielded = a.drain(ctx, work)
			break
		}
		work.end()
		if a.yield(ctx, successor) {
			return a.retire(ctx, life, successor)
		}
		if ctx.Err() != nil {
			a.shutdown()
			break
		}
		if err := a.takeBack(ctx); err != nil {
			return errors.Join(err, a.datapath.Close())
		}
	}
	life.end()
	if a.config.Cleanup && !yielded {
		return errors.Join(err, a.datapath.Cleanup())
	}
	return errors.Join(err, a.datapath.Close())
}

// listen makes the sockets that only one agent of a node can have.
func (a *Agent) listen(ctx context.Context) (err error) {
	a.socket, a.handoverListener = nil, nil
	if a.socket, err = a.claimSocket(ctx); err != nil {
		return err
	}
	if a.handoverListener, err = a.listenHandover(ctx); err != nil {
		return errors.Join(err, a.unlisten())
	}
	return nil
}

func (a *Agent) listenHandover(context.Context) (net.Listener, error) {
	return nodeapi.Listen(a.config.handoverPath())
}

// unlisten closes what listen opened.
func (a *Agent) unlisten() (err error) {
	for _, ln := range []*net.Listener{&a.socket, &a.handoverListener} {
		if *ln != nil {
			err = errors.Join(err, (*ln).Close())
		}
		*ln = nil
	}
	return err
}

func (a *Agent) load() (err error) {
	a.datapath, err = redirect.Load(redirect.Options{
		CgroupRoot:       a.config.CgroupRoot,
		PinRoot:          a.config.PinRoot,
		Proc:             a.config.Proc,
		HeartbeatTimeout: a.config.HeartbeatTimeout,
		DNS:              a.config.DNSNames,
		Log:              a.log,
	})
	if err == nil {
		a.pods.Use(a.datapath)
		a.observer = redirect.NewObserver(a.datapath)
	}
	return err
}

// confine takes from the process what only the start needed. An agent that cannot do it
// works as well.
func (a *components) confine() {
	if a.config.Confine == nil {
		return
	}
	if err := a.config.Confine(a.config.Cleanup); err != nil {
		a.log.Warn("the agent keeps rights that it does not need", "cause", err)
	}
}

// live starts the parts that run for as long as the agent carries traffic.
func (a *components) live(life *parts) {
	life.start("controller stream", a.client.Run)
	life.start("certificates", func(ctx context.Context) error { a.certs.Run(ctx); return nil })
	life.start("containers' resources", a.usage.Run)
	life.start("open connections", a.connections.Run)
	life.start("connections of pods that end", a.carrier.Run)
	life.start("weights of pods", a.weights.Run)
	life.start("figures", func(ctx context.Context) error { a.memory.Run(ctx); return nil })
	life.start("memory of the start", a.returnMemory)
	a.observing.start(life)
	life.start("time slices", a.processors.run)
	life.start("proxy", func(ctx context.Context) error { a.proxy.Run(ctx); return nil })
}

// nodeAPI returns a server of the node API.
func (a *components) nodeAPI() *nodeapi.Server {
	return &nodeapi.Server{
		Hub: a.hub, Source: reporter{a}, Dumper: reporter{a}, Exporter: a.metrics, Ledger: reporter{a}, Usage: a.usage, Lister: a.connections,
		Node: a.config.Node, Memory: a.memory, Pods: func() []*mesh.Workload { return a.store.View().Local() },
		Known:  func() iter.Seq[*mesh.Workload] { return a.store.View().Workloads() },
		Dialer: a.tries, Ejected: reporter{a}.Ejections, Looker: a.watch, Missed: a.watch.Missed,
		Authorization: nodeapi.Authorization{
			Decider: decider{a.config.Node, a.store}, Calls: a.judged,
			Rules: func(uid string) *authz.Workload { return a.store.View().Authz(uid) },
		},
	}
}

// work starts the parts that only one agent of a node may run.
func (a *Agent) work(work *parts) {
	work.start("kernel events", a.readKernelEvents)
	work.start("kernel paths", a.keepPaths)
	work.start("DNS answers", a.readAnswers)
	work.start("observed pods", func(ctx context.Context) error { return a.watch.Run(ctx, a.observer) })
	asides := []aside{
		{name: "node API", opened: a.socket, open: a.claimSocket, serve: func(ctx context.Context, ln net.Listener) error {
			return a.nodeAPI().Serve(ctx, ln)
		}},
		{name: "successors", opened: a.handoverListener, open: a.listenHandover, serve: a.successors.Serve},
	}
	if a.config.APIAddr != "" {
		asides = append(asides, aside{name: "node API for the controller", open: a.openAPI, serve: a.serveController})
	}
	if a.config.MetricsAddr != "" {
		asides = append(asides, aside{
			name: "metrics", must: !a.worked,
			open:  func(ctx context.Context) (net.Listener, error) { return telemetry.Listen(ctx, a.config.MetricsAddr) },
			serve: func(ctx context.Context, ln net.Listener) error { return telemetry.Serve(ctx, ln, a.metrics.Handler()) },
		})
	}
	a.worked = true
	for _, s := range asides {
		work.start(s.name, a.aside(s))
	}
	work.start("pods", a.pods.Run)
	if a.runtime != nil {
		work.start("container runtime", a.runtime.Run)
	}
}

// acceptTime is how long a stopping agent continues to accept connections that are on
// their way to it. Closing a listener resets the connections that it has not accepted.
const acceptTime = 500 * time.Millisecond

// drain shuts down an agent that has no successor. If a successor asks for the node
// meanwhile, it gets the node at once, because this agent accepts no new connections any
// more. drain reports whether that happened.
func (a *Agent) drain(ctx context.Context, work *parts) (yielded bool) {
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		a.carrier.Unpublish()
		time.Sleep(acceptTime)
		a.shutdown()
	}()
	select {
	case s := <-a.successors.Asked():
		work.end()
		yielded = a.yield(ctx, s)
		<-drained
		s.Close()
	case <-drained:
		work.end()
	}
	return yielded
}

// shutdown closes the listeners and lets the open connections end. It cuts those that
// are still open after DrainTimeout.
func (a *Agent) shutdown() {
	a.log.Info("agent stops", "open connections", a.conns.Open())
	a.carrier.CloseListeners()
	a.proxy.Drain()
	ctx, cancel := context.WithTimeout(context.Background(), a.config.DrainTimeout)
	defer cancel()
	if cut := a.conns.Drain(ctx); cut > 0 {
		a.log.Warn("connections were cut: they did not end in time", "connections", cut, "limit", a.config.DrainTimeout)
	}
}

// parts are goroutines that end together, when end is called. They may run longer than
// the agent's context.
type parts struct {
	ctx    context.Context
	stop   context.CancelFunc
	failed chan<- error
	group  sync.WaitGroup
}

func newParts(ctx context.Context, failed chan<- error) *parts {
	p := &parts{failed: failed}
	p.ctx, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	return p
}

func (p *parts) start(name string, f func(context.Context) error) {
	p.group.Go(func() {
		if err := f(p.ctx); err != nil && p.ctx.Err() == nil {
			p.failed <- fmt.Errorf("%s: %w", name, err)
		}
	})
}

// end stops all parts and waits for them. It may be called again.
func (p *parts) end() {
	p.stop()
	p.group.Wait()
}
