package upstream

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
)

// An agent that hangs keeps its connections open, and its kernel still accepts data for
// them: requests on them would wait for ever. The bytes alone do not tell a hung agent
// from a slow application. So when a connection was written to and nothing came since,
// the pool probes the agent by a handshake on a new connection. An agent that runs
// answers at once. If it does not, the pool cuts the connections to the endpoint. It does
// the same if the node has gone without closing its connections.

// Bounds of the silence after which an agent is probed. The time doubles with each probe
// that the agent answers: the application is slow then.
const (
	hungFirst = 2 * time.Second
	hungMost  = time.Minute
)

// monitoredConn is a connection to an agent, below mTLS.
type monitoredConn struct {
	conn.Transport
	ep        Endpoint
	dedicated bool // the transport's dedicatedConns have it
	pool      *transport

	waiting atomic.Bool  // written to since the last read
	cut     atomic.Int32 // the mesh.Reason for which the watch cut it, or 0

	// Only the watch uses these.
	read    uint64        // bytes read, at the last look
	silent  time.Duration // since something was last read
	patient time.Duration // silence before the next probe
}

func (p *transport) monitor(raw *rawio.Conn, ep *Endpoint) *monitoredConn {
	c := &monitoredConn{Transport: conn.Transport{Conn: raw}, ep: *ep, pool: p}
	c.ep.Usage = nil // a probe is the agent's own
	c.Failures = c
	return c
}

func (c *monitoredConn) Write(p []byte) (int, error) {
	c.waiting.Store(true)
	n, err := c.Transport.Write(p)
	if err != nil {
		err = c.Failure(err)
	}
	return n, err
}

func (c *monitoredConn) Read(p []byte) (int, error) {
	n, err := c.Transport.Read(p)
	switch {
	case n > 0:
		c.waiting.Store(false)
	case err != nil:
		err = c.Failure(err)
	}
	return n, err
}

// Failure implements conn.Failures: err with the reason for which the connection was cut, if
// it was.
func (c *monitoredConn) Failure(err error) error {
	if err == nil {
		return nil
	}
	if why := mesh.Reason(c.cut.Load()); why != mesh.ReasonNone {
		return mesh.Fail(why, err)
	}
	return c.pool.failure(c.Conn, err)
}

func (c *monitoredConn) Close() error {
	if c.pool.agents.remove(c) && c.dedicated {
		c.pool.dedicated.leave(c.ep.Key)
	}
	return c.Transport.Close()
}

// look updates how long the connection has been silent, and reports whether the agent is
// to be probed. The watch calls it once in every WatchEvery.
func (c *monitoredConn) look() bool {
	read, _ := c.Bytes()
	if read != c.read || !c.waiting.Load() || c.patient == 0 {
		c.read, c.silent, c.patient = read, 0, hungFirst
		return false
	}
	c.silent += WatchEvery
	if c.silent < c.patient {
		return false
	}
	c.silent, c.patient = 0, min(2*c.patient, hungMost)
	return true
}

// monitoredConns holds all connections to agents, by endpoint.
type monitoredConns struct {
	mu     sync.Mutex
	conns  map[netip.AddrPort]map[*monitoredConn]struct{}
	asking map[netip.AddrPort]bool // endpoints whose agents are being probed

	questions sync.WaitGroup // probes that are under way
}

func (w *monitoredConns) add(c *monitoredConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	addr := c.ep.Peer.Addr
	if w.conns == nil {
		w.conns, w.asking = map[netip.AddrPort]map[*monitoredConn]struct{}{}, map[netip.AddrPort]bool{}
	}
	if w.conns[addr] == nil {
		w.conns[addr] = map[*monitoredConn]struct{}{}
	}
	w.conns[addr][c] = struct{}{}
}

// remove reports whether c was there.
func (w *monitoredConns) remove(c *monitoredConn) (there bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	addr := c.ep.Peer.Addr
	_, there = w.conns[addr][c]
	delete(w.conns[addr], c)
	if len(w.conns[addr]) == 0 {
		delete(w.conns, addr)
	}
	return there
}

// overdue returns connections whose agents are to be probed, one for each endpoint. For
// each of them answered must be called.
func (w *monitoredConns) overdue() []*monitoredConn {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*monitoredConn
	for addr, conns := range w.conns {
		var one *monitoredConn
		for c := range conns {
			if c.look() {
				one = c
			}
		}
		if one != nil && !w.asking[addr] {
			w.asking[addr] = true
			out = append(out, one)
		}
	}
	return out
}

// answered ends the probe of an endpoint's agent. If the agent is lost, it returns the
// connections that are to be cut.
func (w *monitoredConns) answered(addr netip.AddrPort, lost bool) (cut []*monitoredConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.asking, addr)
	if lost {
		for c := range w.conns[addr] {
			cut = append(cut, c)
		}
	}
	return cut
}

// heard returns how many bytes were read from each connection to an endpoint.
func (w *monitoredConns) heard(addr netip.AddrPort) map[*monitoredConn]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := make(map[*monitoredConn]uint64, len(w.conns[addr]))
	for c := range w.conns[addr] {
		counts[c], _ = c.Bytes()
	}
	return counts
}

// more reports whether anything was read since heard returned counts.
func (w *monitoredConns) more(addr netip.AddrPort, counts map[*monitoredConn]uint64) bool {
	for c, n := range w.heard(addr) {
		if n > counts[c] {
			return true
		}
	}
	return false
}

// askAgents starts to probe the agents that have been silent for too long. It is called
// once in every WatchEvery and does not wait.
func (p *transport) askAgents() {
	for _, c := range p.agents.overdue() {
		p.agents.questions.Go(func() { p.probeAgent(c) })
	}
}

// probeAgent probes the agent at the other end of c, and cuts the connections to the
// endpoint if the agent or its node does not answer.
func (p *transport) probeAgent(c *monitoredConn) {
	addr := c.ep.Peer.Addr
	before := p.agents.heard(addr)
	// With HTTP/1 the agent waits for a request: it does not connect to the application.
	probe, _, err := p.handshake(p.Lifetime.Ended, &c.ep, mtls.ALPNHTTP1)
	if err == nil {
		probe.Close()
	}
	hangs := err != nil && (agentAway(err) || refusedForAgent(err) && !p.terminating(&c.ep))
	if hangs && mtls.Silent(err) && p.agents.more(addr, before) {
		hangs = false // it was too busy to answer the probe, but it sent something
	}
	why := mesh.ReasonNone
	switch {
	case hangs:
		why = mesh.ReasonAgentDown
		p.remember(&c.ep, true)
		p.Log.Warn("the agent of an endpoint's node hangs: its connections are cut", "endpoint", addr, "cause", err)
	case nodeLost(err):
		why = mesh.ReasonConnectTimeout
		p.Log.Warn("an endpoint's node does not answer: its connections are cut", "endpoint", addr, "cause", err)
	}
	if why != mesh.ReasonNone {
		p.OnUnreachable(&c.ep, why)
	}
	for _, c := range p.agents.answered(addr, why != mesh.ReasonNone) {
		c.cut.Store(int32(why))
		_ = c.Reset()
		c.Close()
	}
}
