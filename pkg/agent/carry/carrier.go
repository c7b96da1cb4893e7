// Package carry carries the connections of a node's pods: it accepts what the
// kernel steers to the agent, gives it to the proxy, and dials on behalf of pods.
package carry

import (
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/listener"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/tap"
)

// Linger is how long a pod that was taken out keeps its listeners, for connections
// whose handshake was under way.
const Linger = 2 * time.Second

// growthOfProcessor is by how many the open connections of a pod may become more in a second,
// for each processor, while other pods want the processors. To open one costs both nodes 0.2
// to 0.4 ms of processor, with a handshake of mTLS some 2 ms. Those that others open to a pod
// have no such bound: probes would wait behind them.
const growthOfProcessor = 500

// Options are what a Carrier works with.
type Options struct {
	Conns *listener.Group // counts the accepted connections
	Tap   tap.Sink        // gets the events of connections that are not for the proxy
	State State
	Log   *slog.Logger
	// OnLeft, if it is not nil, is called when Leaving has a pod less. It must not wait.
	OnLeft func()
}

// Carrier knows the pods whose connections this agent carries: those that are
// enrolled, and those that were taken out and still have connections. Its methods
// are safe for concurrent use.
//
// It is made of layers, each of which embeds the one below it and uses none above: registry,
// endings. Carrier itself accepts the connections, and begins and stops that for each pod.
type Carrier struct {
	endings
	handler Handler     // set once, before the first pod
	growth  int         // of a pod's own connections, listener.Manner
	closing atomic.Bool // the listeners are closed, or are about to be
}

// endings follows the ends of pods: of those that are carried, and of those of other nodes
// that were dialled (ended.go, closed.go).
type endings struct {
	registry
	farewell time.Duration // farewellTime
	// endpoints are the pods that were dialled, by the address.
	endpoints map[netip.Addr]*endpoint
}

// registry has the pods that are carried, and their connections (direct.go).
type registry struct {
	Options

	mu       sync.RWMutex
	pods     map[*redirect.Pod]*pod
	byUID    map[string]*pod // those that are enrolled
	byCookie map[uint64]*pod // the same, by the cookie of their network namespace
}

// pod is a pod whose connections are carried. registry.mu guards what changes.
type pod struct {
	*redirect.Pod
	workload  *mesh.Workload
	leaving   bool                     // it was taken out: its open connections are served to their end
	lingering bool                     // it was taken out, and its listeners are still open
	known     bool                     // the state has had it
	ended     bool                     // its containers have ended
	closed    bool                     // it is being deleted, and its programs accept no connections any more
	looked    time.Time                // when that was looked for last
	open      int                      // accepted connections that are being served
	conns     map[*rawio.Conn]struct{} // accepted from the pod, and dialled from it or into it
	callers   map[*rawio.Conn]struct{} // accepted from its clients
}

// New makes a Carrier without pods. Serve must be called before the first Carry.
func New(o Options) *Carrier {
	c := &Carrier{growth: growthOfProcessor * runtime.GOMAXPROCS(0)}
	c.Options, c.farewell = o, farewellTime
	c.pods, c.byUID, c.byCookie = make(map[*redirect.Pod]*pod), make(map[string]*pod), make(map[uint64]*pod)
	c.endpoints = make(map[netip.Addr]*endpoint)
	return c
}

// Serve says who serves the connections that are accepted.
func (c *Carrier) Serve(h Handler) { c.handler = h }

// Carry accepts and dials for w, which is enrolled as e, until Retire.
func (c *Carrier) Carry(w *mesh.Workload, e *redirect.Pod) {
	p := &pod{Pod: e, workload: w, conns: make(map[*rawio.Conn]struct{}), callers: make(map[*rawio.Conn]struct{})}
	_, p.known = c.State.View().WorkloadByUID(w.UID)
	c.mu.Lock()
	c.pods[e], c.byUID[w.UID], c.byCookie[e.Cookie()] = p, p, p
	c.mu.Unlock()
	for _, l := range e.Outbound {
		m := listener.Manner{Turns: c.handler.Turns(w, mesh.Outbound), Growth: c.growth}
		c.Conns.ServeInTurn(l, m, func(conn *rawio.Conn) listener.Rest { return c.outbound(p, conn) })
	}
	for _, l := range e.Inbound {
		m := listener.Manner{Turns: c.handler.Turns(w, mesh.Inbound)}
		c.Conns.ServeInTurn(l, m, func(conn *rawio.Conn) listener.Rest { return c.inbound(p, conn) })
	}
}

// Update gives new connections of an enrolled pod its changed settings and
// addresses.
func (c *registry) Update(w *mesh.Workload) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.byUID[w.UID]; p != nil {
		p.workload = w
	}
}

// Retire begins to take a pod out that is not enrolled any more. Its connections, and those on
// their way to its listeners, are served to their end. withdraw takes the pod out of the
// kernel.
func (c *Carrier) Retire(e *redirect.Pod, withdraw func()) {
	c.mu.Lock()
	p := c.pods[e]
	if p == nil || p.leaving {
		c.mu.Unlock()
		return
	}
	p.leaving, p.lingering = true, true
	delete(c.byUID, e.UID)
	delete(c.byCookie, e.Cookie())
	e.Hold() // until it has lingered
	c.mu.Unlock()
	withdraw()
	time.AfterFunc(Linger, func() { c.lingered(p) })
}

// lingered closes the listeners of a pod that was taken out.
func (c *registry) lingered(p *pod) {
	p.CloseListeners()
	defer p.Release()
	c.mu.Lock()
	defer c.mu.Unlock()
	p.lingering = false
	c.forget(p)
}

// forget drops a pod that was taken out once nothing of it is left. It closes the pooled
// connections from the pod to endpoints, so that nothing uses its identity any more. Other
// pods' connections into the pod go on. mu is held.
func (c *registry) forget(p *pod) {
	if !p.leaving || p.open > 0 || p.lingering || c.pods[p.Pod] != p {
		return
	}
	delete(c.pods, p.Pod)
	var pooled []*rawio.Conn
	for conn := range p.conns {
		if conn.Remote().Addr() != conn.Local().Addr() { // not one into the pod
			pooled = append(pooled, conn)
		}
	}
	if len(pooled) > 0 {
		go cut(pooled) // which takes mu
	}
	if c.OnLeft != nil {
		c.OnLeft()
	}
}

// begin counts an accepted connection of the pod among those of set, its conns or
// callers. nil: the pod was dropped. ended: it has ended.
func (c *registry) begin(p *pod, conn *rawio.Conn, set map[*rawio.Conn]struct{}) (w *mesh.Workload, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pods[p.Pod] != p {
		return nil, false
	}
	p.open++
	set[conn] = struct{}{}
	p.Hold()
	return p.workload, p.ended
}

// end undoes begin when the connection has ended.
func (c *registry) end(p *pod, conn *rawio.Conn, set map[*rawio.Conn]struct{}) {
	defer p.Release()
	c.mu.Lock()
	defer c.mu.Unlock()
	p.open--
	delete(set, conn)
	c.forget(p)
}

// Leaving returns the pods that were taken out and still have connections.
func (c *registry) Leaving() []*mesh.Workload {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var list []*mesh.Workload
	for _, p := range c.pods {
		if p.leaving {
			list = append(list, p.workload)
		}
	}
	return list
}

// ByCookie returns the enrolled pod whose network namespace has the cookie; nil:
// there is none.
func (c *registry) ByCookie(cookie uint64) *mesh.Workload {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if p := c.byCookie[cookie]; p != nil {
		return p.workload
	}
	return nil
}

// Closing reports whether the listeners are closed or about to be.
func (c *Carrier) Closing() bool { return c.closing.Load() }

// Unpublish keeps new connections away at a shutdown without a successor. The pods stay in
// the maps without listeners: new connections then fail open or closed, by each pod's fail
// mode. The caller calls CloseListeners afterwards.
func (c *Carrier) Unpublish() { c.close((*redirect.Pod).Unpublish, false) }

// CloseListeners stops accepting, also for pods that were taken out.
func (c *Carrier) CloseListeners() { c.close((*redirect.Pod).CloseListeners, true) }

func (c *Carrier) close(how func(*redirect.Pod), leaving bool) {
	c.closing.Store(true)
	c.mu.RLock()
	defer c.mu.RUnlock()
	for e, p := range c.pods {
		if leaving || !p.leaving {
			how(e)
		}
	}
}
