package l7proxy

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"golang.org/x/sys/unix"
)

// An agent that hangs keeps its connections, and its kernel goes on taking what
// they carry: requests on them would wait for ever. Nothing in the bytes tells
// it from a slow application, so a connection that was written to and has been
// silent since has its agent asked, by a handshake on a new connection. A live
// agent answers that at once; otherwise the connections to the endpoint are cut.
// The same is done to those to a node that is gone without a word.

// Bounds of the silence after which an agent is asked: it doubles while the
// agent is well and the application slow.
const (
	hungFirst = 2 * time.Second
	hungMost  = time.Minute
)

// watched is a connection to an agent, below mTLS.
type watched struct {
	transport
	local  *mesh.Workload
	choice Choice
	http1  bool // it carries one HTTP/1 connection
	all    *watchedConns

	waiting atomic.Bool // written to since the last read
	cut     atomic.Bool

	// Of the watch alone.
	read    uint64 // bytes, when it last looked
	silent  time.Duration
	patient time.Duration
}

func (c *watched) Write(p []byte) (int, error) {
	c.waiting.Store(true)
	return c.transport.Write(p)
}

func (c *watched) Read(p []byte) (int, error) {
	n, err := c.transport.Read(p)
	switch {
	case n > 0:
		c.waiting.Store(false)
	case c.cut.Load():
		err = mesh.Fail(mesh.ReasonAgentDown, err)
	}
	return n, err
}

func (c *watched) Close() error {
	c.all.remove(c)
	return c.transport.Close()
}

// look is what the watch does once in every watchEvery; true: the agent is to be
// asked.
func (c *watched) look() bool {
	read, _ := c.Bytes()
	if read != c.read || !c.waiting.Load() || c.patient == 0 {
		c.read, c.silent, c.patient = read, 0, hungFirst
		return false
	}
	c.silent += watchEvery
	if c.silent < c.patient {
		return false
	}
	c.silent, c.patient = 0, min(2*c.patient, hungMost)
	return true
}

// watchedConns are all connections to agents, by endpoint.
type watchedConns struct {
	mu     sync.Mutex
	conns  map[netip.AddrPort]map[*watched]struct{}
	http1  map[PoolKey]int // those of them that carry one HTTP/1 connection
	asking map[netip.AddrPort]bool

	questions sync.WaitGroup // under way
}

func (w *watchedConns) add(c *watched) {
	w.mu.Lock()
	defer w.mu.Unlock()
	addr := c.choice.Peer.Addr
	if w.conns == nil {
		w.conns, w.asking = map[netip.AddrPort]map[*watched]struct{}{}, map[netip.AddrPort]bool{}
		w.http1 = map[PoolKey]int{}
	}
	if w.conns[addr] == nil {
		w.conns[addr] = map[*watched]struct{}{}
	}
	w.conns[addr][c] = struct{}{}
	if c.http1 {
		w.http1[c.choice.Key]++
	}
}

// ownHTTP1 counts the connections that carry one HTTP/1 connection each.
func (w *watchedConns) ownHTTP1(key PoolKey) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.http1[key]
}

func (w *watchedConns) remove(c *watched) {
	w.mu.Lock()
	defer w.mu.Unlock()
	addr := c.choice.Peer.Addr
	if _, there := w.conns[addr][c]; there && c.http1 {
		if w.http1[c.choice.Key]--; w.http1[c.choice.Key] == 0 {
			delete(w.http1, c.choice.Key)
		}
	}
	delete(w.conns[addr], c)
	if len(w.conns[addr]) == 0 {
		delete(w.conns, addr)
	}
}

// due are connections whose agents are to be asked, one of each endpoint. Each
// must be given to answered.
func (w *watchedConns) due() []*watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*watched
	for addr, conns := range w.conns {
		var one *watched
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

// answered ends the asking of an endpoint's agent. Where it hangs, the
// connections that are returned are to be cut.
func (w *watchedConns) answered(addr netip.AddrPort, hangs bool) (cut []*watched) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.asking, addr)
	if hangs {
		for c := range w.conns[addr] {
			cut = append(cut, c)
		}
	}
	return cut
}

// heard is how many bytes came on each connection to an endpoint.
func (w *watchedConns) heard(addr netip.AddrPort) map[*watched]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := make(map[*watched]uint64, len(w.conns[addr]))
	for c := range w.conns[addr] {
		counts[c], _ = c.Bytes()
	}
	return counts
}

// more reports whether anything came since heard gave counts.
func (w *watchedConns) more(addr netip.AddrPort, counts map[*watched]uint64) bool {
	for c, n := range w.heard(addr) {
		if n > counts[c] {
			return true
		}
	}
	return false
}

// nodeLost reports whether a connection failed because nobody at that address
// says a word, not even that nobody listens.
func nodeLost(err error) bool {
	return err != nil && (reasonOf(err) == mesh.ReasonConnectTimeout ||
		errors.Is(err, unix.EHOSTUNREACH) || errors.Is(err, unix.ENETUNREACH))
}

// askAgents asks after agents that have been silent for too long. It is called
// once in every watchEvery and does not wait.
func (p *Proxy) askAgents(ctx context.Context) {
	for _, c := range p.watched.due() {
		p.watched.questions.Go(func() { p.askAfter(ctx, c) })
	}
}

// askAfter has the agent that c goes to prove that it lives.
func (p *Proxy) askAfter(ctx context.Context, c *watched) {
	addr := c.choice.Peer.Addr
	before := p.watched.heard(addr)
	// HTTP/1: the agent waits for a request, and troubles no application.
	conn, err := p.handshake(ctx, c.local, &c.choice, mtls.ALPNHTTP1)
	if err == nil {
		conn.Close()
	}
	hangs, lost := err != nil && (agentAway(err) || refusedForAgent(err)), nodeLost(err)
	if hangs && mtls.Silent(err) && p.watched.more(addr, before) {
		hangs = false // it has no time for the question, but it has spoken
	}
	switch {
	case hangs:
		p.down.remember(addr, p.Limits.AgentDownMemory)
		p.Log.Warn("the agent of an endpoint's node hangs: its connections are cut", "endpoint", addr, "cause", err)
		p.absent(&c.choice, mesh.ReasonAgentDown, nil)
	case lost:
		p.Log.Warn("an endpoint's node does not answer: its connections are cut", "endpoint", addr, "cause", err)
		p.absent(&c.choice, mesh.ReasonConnectTimeout, nil)
	}
	for _, c := range p.watched.answered(addr, hangs || lost) {
		c.cut.Store(true)
		_ = c.Reset()
		c.Close()
	}
}
