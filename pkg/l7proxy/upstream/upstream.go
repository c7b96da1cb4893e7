package upstream

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/lifetime"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// Network makes connections inside the namespaces of this node's pods.
type Network interface {
	// Dial connects to dst from the pod with the UID from: the source address is the
	// pod's. The error may carry a reason, as *mesh.ReasonError.
	Dial(ctx context.Context, from string, dst netip.AddrPort) (*rawio.Conn, error)
	// DialApp connects to the application of the pod with the UID into, at dst. The
	// application sees client as its peer. The error may carry a reason.
	DialApp(ctx context.Context, into string, dst, client netip.AddrPort) (*rawio.Conn, error)
	// Gone reports whether the pod that had addr has ended within the last seconds, and
	// no other pod has the address: then a connection to addr ended, or was not made,
	// because of that.
	Gone(addr netip.Addr) bool
}

// State is what the node knows of the mesh.
type State interface {
	View() *state.View
	// Resolve waits until the controller has said whose addr is. An error means that it
	// has not done so in time, and that the view does not know.
	Resolve(ctx context.Context, addr netip.Addr) error
	// Await asks the controller for addr, and waits until known is true of the view. An
	// error means that this did not happen in time, or that the controller is away.
	Await(ctx context.Context, addr netip.Addr, known func(*state.View) bool) error
	// Connected reports whether the controller is there.
	Connected() bool
	// Subscribe asks the controller for addr without waiting, and marks addr as used.
	Subscribe(addr netip.Addr)
}

// Limits are times; none is zero.
type Limits struct {
	Connect          time.Duration // to connect to an endpoint by TCP
	Failover         time.Duration // the same while there are other endpoints to try
	HandshakeSilence time.Duration // a peer that is silent for so long in the handshake is no agent
	Resolve          time.Duration // to wait for the controller to say whose an address is
	Idle             time.Duration // after which pooled connections are closed
	AgentDownTTL     time.Duration // before a peer that was found without an agent is tried again
}

// Options are what a Pool works with.
type Options struct {
	Network  Network
	State    State
	Certs    *mtls.Manager
	Log      *slog.Logger
	Limits   Limits
	Lifetime *lifetime.Lifetime
	// OnHandshake is called with the time that each mTLS handshake of a pod of this node with
	// an agent has computed. nil: not wanted.
	OnHandshake func(client *mesh.Workload, computed time.Duration)
	// Threads is told when a handshake computes; nil: nothing is.
	Threads Threads
	// OnUnreachable is called for endpoints that cannot be reached, with the reason. It
	// must not wait.
	OnUnreachable func(ep *Endpoint, why mesh.Reason)
	// Tap receives tap.LegOpen and tap.LegClose of the connections that carry requests;
	// nil: nothing does.
	Tap tap.Sink
	// Hangups watch the connections to agents and endpoints that carry many requests at once;
	// nil: nothing does.
	Hangups *rawio.Hangups
	// OpaqueStreams lets opaque connections be streams of shared connections.
	OpaqueStreams OpaqueStreams
	// Connect replaces TCP and mTLS by way of Network, if it is not nil.
	Connect func(ctx context.Context, ep *Endpoint, client netip.AddrPort, alpn string) (conn.Conn, Result, error)
}

// Pool makes the connections to endpoints and keeps those that can be used again.
// Its methods are safe for concurrent use.
type Pool struct {
	dialer

	idle       idlePool
	idleShared idlePool // streams of shared connections
	mux        muxPool
	opaque     opaquePool
	http2      http2Pool
	lateDials  lateDials
}

// transport connects to an address, with mTLS or without, and watches over the agents at the
// other ends (handshake.go, agentwatch.go, downpeers.go, gone.go).
type transport struct {
	Options

	gate      *mtls.Gate // of all mTLS handshakes
	turns     turns
	down      downPeers
	agents    monitoredConns
	dedicated dedicatedConns
	stall     stallDetector
	shortcuts shortcuts
	startMu   sync.Mutex     // nothing starts once the lifetime has ended
	running   sync.WaitGroup // dials that may outlive their requests
}

// dialer connects to an endpoint, in the mode and the address family in which it can be
// reached (dial.go, families.go).
type dialer struct {
	transport

	fallbacks atomic.Uint64
}

// New makes a pool. Run must be called for as long as it is used.
func New(o Options) *Pool {
	p := &Pool{}
	p.Options, p.gate = o, newGate()
	p.down.peers, p.down.asked = make(map[netip.AddrPort]*downPeer), make(map[string]*downPeer)
	p.mux.init(p, mtls.ALPNMux)
	p.opaque.init(p)
	p.http2.owner = p
	return p
}

// WatchEvery is the time between two looks of the watch over agents.
const WatchEvery = time.Second

// Run keeps the pool tidy until its lifetime has ended, and closes what is idle.
func (p *Pool) Run() {
	tick := time.NewTicker(p.Limits.Idle / 6)
	defer tick.Stop()
	watch := time.NewTicker(WatchEvery)
	defer watch.Stop()
	for {
		select {
		case <-p.Lifetime.Ended.Done():
			p.agents.questions.Wait()
			p.settle()
			p.running.Wait()
			p.idle.closeAll()
			p.idleShared.closeAll()
			p.http2.drain()
			p.mux.drain()
			p.opaque.drain()
			return
		case <-watch.C:
			p.stall.tick()
			p.askAgents()
		case <-tick.C:
			p.CloseIdle(p.Limits.Idle)
			p.mux.closeIdle(p.Limits.Idle / 6) // CloseIdle has closed their idle streams
			p.opaque.tidy(p.Limits.Idle)
			p.down.forget()
		}
	}
}

// settle waits for start, if that runs while the lifetime ends.
func (p *transport) settle() {
	p.startMu.Lock()
	defer p.startMu.Unlock()
}

// Fallbacks returns how many connections were made without TLS because the agent of the
// server's node did not answer.
func (p *dialer) Fallbacks() uint64 { return p.fallbacks.Load() }

// HandshakesTimedOut returns how many handshakes gave up waiting for their turn.
func (p *Pool) HandshakesTimedOut() uint64 { return p.turns.overdue.Load() }

// RefusedRequests returns how many requests were refused because too many waited for a stream of a
// connection to their endpoint.
func (p *Pool) RefusedRequests() uint64 { return p.http2.refused.Load() }

// CloseIdle closes the HTTP/1 connections that have been idle for longer than limit.
func (p *Pool) CloseIdle(limit time.Duration) {
	p.idle.closeIdle(limit)
	p.idleShared.closeIdle(limit)
}

// Stats are counts of what a pool holds.
type Stats struct {
	IdleHTTP1    int // connections, including streams of shared ones
	HTTP2        int // connections that many sessions may use
	PrivateHTTP2 int // connections that one session uses
	WaitingHTTP2 int // requests that wait for a stream of a connection

	Opaque        int // shared connections for opaque ones
	OpaqueStreams int // opaque connections that are streams of these
}

// Stats returns what the pool holds now.
func (p *Pool) Stats() (s Stats) {
	for _, idle := range []*idlePool{&p.idle, &p.idleShared} {
		idle.mu.Lock()
		s.IdleHTTP1 += idle.total
		idle.mu.Unlock()
	}
	s.WaitingHTTP2 = int(p.http2.waiting.Load())
	s.Opaque, s.OpaqueStreams = p.opaque.stats()
	p.http2.mu.Lock()
	defer p.http2.mu.Unlock()
	for key, conns := range p.http2.conns {
		if key.Session == 0 {
			s.HTTP2 += len(conns)
		} else {
			s.PrivateHTTP2 += len(conns)
		}
	}
	return s
}

// Gate returns the gate that all mTLS handshakes pass, inbound and outbound.
func (p *transport) Gate() *mtls.Gate { return p.gate }
