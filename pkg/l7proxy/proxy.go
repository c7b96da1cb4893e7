// Package l7proxy is the node's proxy: it takes captured connections, finds out
// what they speak, chooses endpoints per request, carries the bytes, between
// nodes under mutual TLS, and tells tap what happened.
//
// The way of a connection: outbound.go or inbound.go (where it is to go) →
// first.go (who speaks first, and what) → h1.go, h2.go or tcp.go (the driver of
// its protocol) → upstream.go (the connection to the endpoint).
package l7proxy

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/rawio"
	"github.com/underlane/underlane/pkg/state"
	"github.com/underlane/underlane/pkg/tap"
)

// Network makes connections inside the namespaces of this node's pods.
type Network interface {
	// Dial connects to dst from the pod with this UID: the source address is
	// the pod's.
	Dial(ctx context.Context, from string, dst netip.AddrPort) (*rawio.Conn, error)
	// DialApp connects to the pod's own application at dst, which sees client
	// as its peer.
	DialApp(ctx context.Context, into string, dst, client netip.AddrPort) (*rawio.Conn, error)
	// Enrolled reports whether the pod's traffic goes through this agent.
	Enrolled(uid string) bool
	// Shared reports whether the node is being handed over: pods that are not
	// enrolled here may be with another agent.
	Shared() bool
}

// State is what the node knows of the mesh.
type State interface {
	View() *state.View
	// Resolve waits, briefly, until the controller has said whose addr is; an
	// error means that it has not, and the view does not know.
	Resolve(ctx context.Context, addr netip.Addr) error
	// Touch asks for addr without waiting, and marks it as used.
	Touch(addr netip.Addr)
	// IsNode reports whether addr is let in as the node itself is.
	IsNode(addr netip.Addr) bool
}

// Observer takes tap events. Active reports whether anybody reads them, beyond
// the metrics.
type Observer interface {
	tap.Sink
	Active() bool
}

// Limits bound what one connection may take. The zero value of a field means
// its default.
type Limits struct {
	ConnectTimeout  time.Duration // of TCP to an endpoint; default 5 s
	FailoverTimeout time.Duration // the same while there are other endpoints to try; default 2 s
	HandshakePause  time.Duration // a peer silent for so long in the handshake counts as no agent; default 3 s
	ResolveTimeout  time.Duration // waiting for the controller's word on an address; default 5 s
	IdleTimeout     time.Duration // of pooled upstream connections; default 60 s
	AgentDownMemory time.Duration // before a peer found without agent is tried again; default 5 s

	// PodConnections bounds the connections that a pod has open to others by way
	// of the proxy, and as many that others have open to it.
	PodConnections int // default DefaultPodConnections
	// PodBuffer bounds the bytes of HTTP/2 bodies that wait for their receivers,
	// of each of these two: where there are more, no further request begins.
	PodBuffer int // default DefaultPodBuffer
}

// Defaults of Limits.
const (
	DefaultPodConnections = 10_000
	DefaultPodBuffer      = 64 << 20
)

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&l.ConnectTimeout, 5 * time.Second},
		// A lost SYN is sent again after 1 s (RFC 6298), and leaves 1 s for the
		// answer.
		{&l.FailoverTimeout, 2 * time.Second},
		// Longer than an agent's heartbeat time-out (2 s): when a hung agent is
		// given up, its node's kernel has begun to pass connections by it, and
		// the next attempt reaches the application.
		{&l.HandshakePause, 3 * time.Second},
		// Longer than an agent takes to find the next controller (3 s): an address
		// that is taken for unknown is reached in plaintext.
		{&l.ResolveTimeout, 5 * time.Second},
		{&l.IdleTimeout, time.Minute},
		{&l.AgentDownMemory, 5 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	l.PodConnections = cmp.Or(l.PodConnections, DefaultPodConnections)
	l.PodBuffer = cmp.Or(l.PodBuffer, DefaultPodBuffer)
	return l
}

// Options are what a proxy works with.
type Options struct {
	Network Network
	State   State
	Certs   *mtls.Manager
	Tap     Observer
	Log     *slog.Logger
	Limits  Limits
}

// Proxy is the proxy of one node. Its methods are safe for concurrent use.
type Proxy struct {
	Options

	gate    *mtls.Gate // of all mTLS handshakes
	flights flights

	balancers  balancers
	absences   absences
	lateDials  lateDials
	routings   routings
	rateLimits rateLimits
	budgets    budgets
	hints      hints
	down       downPeers
	watched    watchedConns
	pool       pool
	h2         h2Pool
	muxes      muxes
	pods       podUses
	ids        atomic.Uint32
	draining   atomic.Bool
	panics     atomic.Uint64
	retiring   atomic.Bool
	fallbacks  atomic.Uint64

	retriesRefused atomic.Uint64 // for want of budget
	mirrors        mirrors
	endMirrors     context.CancelFunc

	h1 h1Sessions

	standstill standstill
}

// New makes a proxy. Run must be called for as long as it serves.
func New(o Options) *Proxy {
	o.Limits = o.Limits.withDefaults()
	proxy := &Proxy{
		Options: o,
		gate:    newGate(),
	}
	proxy.mirrors.ctx, proxy.endMirrors = context.WithCancel(context.Background())
	proxy.absences.ctx, proxy.absences.end = context.WithCancel(context.Background())
	proxy.absences.dials = make(chan struct{}, dialsAtOnce)
	proxy.absences.byAddr = make(map[netip.AddrPort]*absence)
	proxy.balancers.log = o.Log
	proxy.balancers.byPort = make(map[portKey]*portBalancer)
	proxy.routings.byPort, proxy.routings.used = make(map[routingKey]*routing), make(map[routingKey]uint64)
	proxy.budgets.byName = make(map[[2]string]*serviceBudget)
	proxy.hints.firstSpeaker = make(map[netip.AddrPort]speaker)
	proxy.down.until = make(map[netip.AddrPort]time.Time)
	proxy.pool.idle = make(map[poolKey][]pooled)
	proxy.muxes.init()
	proxy.h1.all = make(map[*h1]struct{})
	return proxy
}

// Run keeps the proxy's pools tidy until ctx is done, then closes them.
func (p *Proxy) Run(ctx context.Context) {
	tick := time.NewTicker(p.Limits.IdleTimeout / 6)
	defer tick.Stop()
	watch := time.NewTicker(watchEvery)
	defer watch.Stop()
	for {
		select {
		case <-ctx.Done():
			p.watched.questions.Wait()
			p.absences.stop()
			p.endMirrors()
			p.mirrors.running.Wait()
			p.pool.closeAll()
			p.h2.closeAll()
			p.muxes.closeAll()
			return
		case <-watch.C:
			p.standstill.tick()
			p.h1.watch()
			p.askAgents(ctx)
		case <-tick.C:
			p.pool.closeIdle(p.Limits.IdleTimeout)
			p.muxes.closeIdle(p.Limits.IdleTimeout / 6) // of their streams, those that were idle are closed by now
			p.down.forget()
			p.balancers.forget()
			p.absences.forget()
			p.routings.forget()
			p.rateLimits.forget(func(uid string) bool { _, ok := p.State.View().WorkloadByUID(uid); return ok })
		}
	}
}

// PlaintextFallbacks counts connections made without TLS because the agent of
// the server's node did not answer.
func (p *Proxy) PlaintextFallbacks() uint64 { return p.fallbacks.Load() }

// Panics counts streams of shared connections that were cut because serving them
// panicked.
func (p *Proxy) Panics() uint64 { return p.panics.Load() }

// RetriesRefused counts retries that a Service's budget did not allow.
func (p *Proxy) RetriesRefused() uint64 { return p.retriesRefused.Load() }

// MirrorsDropped counts copies of requests that were not made, or not answered.
func (p *Proxy) MirrorsDropped() uint64 { return p.mirrors.dropped.Load() }

// Retire has responses say that their HTTP/1 connections end with them. Drain is
// to follow: what was in use until then is gone by itself, and is not cut while a
// client sends the next request.
func (p *Proxy) Retire() {
	p.retiring.Store(true)
	p.muxes.drain()
}

// Drain asks every session to end soon: idle ones at once, HTTP/1 ones after
// the response in progress, HTTP/2 ones by GOAWAY. It does not wait.
func (p *Proxy) Drain() {
	p.retiring.Store(true)
	p.draining.Store(true)
	p.h1.wakeIdle()
	p.h2.drain()
	p.muxes.drain()
}

// past is a deadline that wakes whoever waits.
var past = time.Unix(1, 0)
