// Package l7proxy is the node's proxy. It accepts captured connections, detects their
// protocol, picks an endpoint for each request, carries the bytes (between nodes in mutual
// TLS), and reports to tap.
//
// The life of a connection: serve.go (its destination, from package destination) →
// first.go (which side speaks first) → tell.go (the protocol, from package detect) →
// package h1, h2 or opaque (the driver of its protocol) → package request (routes,
// retries and failover of each request) → packages endpoints and upstream (the endpoint,
// and the connection to it).
package l7proxy

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/fairshare"
	"github.com/underlane/underlane/pkg/l7proxy/conn"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/h1"
	"github.com/underlane/underlane/pkg/l7proxy/h2"
	"github.com/underlane/underlane/pkg/l7proxy/lifetime"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/limit/lease"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/rawio"
)

// Network makes connections from the namespaces of this node's pods, and knows which of
// the pods are enrolled.
type Network interface {
	upstream.Network
	destination.Network
}

// State is what the node knows of the mesh.
type State interface {
	upstream.State
	// IsNode reports whether a client with this address counts as the node itself.
	IsNode(addr netip.Addr) bool
}

// Observer receives tap events.
type Observer = request.Observer

// Limits are time and size limits of connections. The zero value of a field means its
// default.
type Limits struct {
	ConnectTimeout   time.Duration // of TCP to an endpoint; default 5 s
	FailoverTimeout  time.Duration // of TCP to an endpoint if there are others to try; default 2 s
	HandshakeSilence time.Duration // a peer that sends nothing in the handshake for this time is no agent; default 3 s
	ResolveTimeout   time.Duration // for the controller's answer about an address; default 5 s
	IdleTimeout      time.Duration // of pooled upstream connections; default 60 s
	AgentDownTTL     time.Duration // how long a peer counts as without agent before it is tried again; default 5 s

	// PodConnections bounds the connections of a pod that go through the proxy,
	// separately for those that the pod opens and those that it accepts.
	PodConnections int // default DefaultPodConnections
	// PodBuffer bounds the bytes of HTTP/2 bodies that wait for their receivers, of a
	// pod and separately in each direction. While there are more, no request begins.
	PodBuffer int // default DefaultPodBuffer

	// Descriptors bounds the file descriptors of all clients' connections and of those to
	// their endpoints, Memory the bytes that wait, of all pods. 0: no limit.
	Descriptors, Memory int
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
		// A lost SYN is retransmitted after 1 s (RFC 6298), which leaves 1 s for the
		// answer.
		{&l.FailoverTimeout, 2 * time.Second},
		// Longer than an agent's heartbeat timeout (2 s). When this agent gives a hung
		// agent up, the kernel of that node does not steer connections to it any more,
		// and the next attempt reaches the application.
		{&l.HandshakeSilence, 3 * time.Second},
		// Longer than an agent takes to find the next controller (3 s), because an
		// address without an answer is reached in plaintext.
		{&l.ResolveTimeout, 5 * time.Second},
		{&l.IdleTimeout, time.Minute},
		{&l.AgentDownTTL, 5 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	l.PodConnections = cmp.Or(l.PodConnections, DefaultPodConnections)
	l.PodBuffer = cmp.Or(l.PodBuffer, DefaultPodBuffer)
	return l
}

// Options configure a Proxy.
type Options struct {
	Network Network
	State   State
	Certs   *mtls.Manager
	Tap     Observer
	Log     *slog.Logger
	Limits  Limits
	Calls   *calls.Store // what authorization policies have judged; nil: it is not remembered
	// Shares shares the processors between pods. nil: pods take what they want.
	Shares *fairshare.Scheduler
	// Threads is told when a handshake computes; nil: nothing is.
	Threads upstream.Threads
	// Sampling is for pods that have none of their own. nil: nothing is traced.
	Sampling *mesh.TraceSampling
	// Logged reports whether access logs need the heads of requests. nil: none does.
	Logged func() bool
	// StaleKeys is called with the source of keys if these lack the key of a token. It must not
	// wait. nil: it is not called.
	StaleKeys func(source string)
	// Names are shown of destinations outside the mesh that clients do not name. nil: none are.
	Names request.Names
	// Leases are the limits of RateLimitPolicies; nil: the proxy has its own.
	Leases *lease.Table
	// OpaqueStreams says which opaque connections to pods of other nodes are streams of shared
	// connections.
	OpaqueStreams OpaqueStreams
	// Paths is told of connections that the kernel may make itself in future; nil: none are told.
	Paths Paths
	// PathsOfRequests: they may be connections to ports that are not opaque, too.
	PathsOfRequests bool
}

// Paths is what connects pods without the proxy where there is nothing to decide.
type Paths interface {
	// Used is called for each connection of local, a pod of this node, to a port that a
	// setting makes opaque, and with PathsOfRequests for those to other ports that are settled
	// when they are made. It must not wait.
	Used(local *mesh.Workload, dst netip.AddrPort)
}

// Proxy is the proxy of one node. Its methods are safe for concurrent use.
type Proxy struct {
	components
	hints   hints
	judging sync.Map // pods whose requests under way are being judged: UIDs, and a quota.Key for those that leave
	// egressJudged is the version of the view at the last judgeEgress, which one goroutine calls.
	egressJudged uint64
	egressAgain  int           // how often opaque connections are judged again: some were being opened
	leftJudged   atomic.Uint64 // how often what leaves the mesh was judged
	judged       atomic.Uint64 // version of the view by which open connections were judged last
	ids          atomic.Uint32
}

// components are what a proxy is made of. Its methods return what they have counted, for the
// metrics and the node API (stats.go).
type components struct {
	Options

	lifetime  *lifetime.Lifetime
	pods      quota.Pods
	core      request.Core
	upstream  *upstream.Pool
	hangups   rawio.Hangups // of connections that carry many requests at once
	lot       conn.Lot      // of connections that carry nothing
	endpoints *endpoints.Set
	directory *destination.Directory
	h1        *h1.Driver
	h2        *h2.Driver
	muxes     *lifetime.Group[*mux.Conn] // that agents of other nodes have made
	movable   movable                    // those with opaque streams
	muxFloods atomic.Uint64
	muxPaced  atomic.Uint64
	panics    atomic.Uint64
	revoked   atomic.Uint64
	cut       atomic.Uint64 // requests under way
}

// New makes a proxy. Run must run for as long as the proxy serves.
func New(o Options) *Proxy {
	o.Limits = o.Limits.withDefaults()
	p := &Proxy{}
	p.Options, p.lifetime = o, lifetime.New()
	p.pods.MaxConns, p.pods.MaxBuffered = o.Limits.PodConnections, o.Limits.PodBuffer
	p.pods.Shares = o.Shares
	p.pods.Descriptors, p.pods.Memory = o.Limits.Descriptors, o.Limits.Memory
	p.hints.firstSpeaker = make(map[netip.AddrPort]speaker)
	p.core.Hangups, p.core.Lot = &p.hangups, &p.lot
	p.upstream = upstream.New(upstream.Options{
		Network: o.Network, State: o.State, Certs: o.Certs, Log: o.Log, Lifetime: p.lifetime, Tap: o.Tap,
		OpaqueStreams: o.OpaqueStreams, Threads: o.Threads, Hangups: &p.hangups,
		Limits: upstream.Limits{
			Connect: o.Limits.ConnectTimeout, Failover: o.Limits.FailoverTimeout,
			HandshakeSilence: o.Limits.HandshakeSilence, Resolve: o.Limits.ResolveTimeout,
			Idle: o.Limits.IdleTimeout, AgentDownTTL: o.Limits.AgentDownTTL,
		},
		OnHandshake: func(client *mesh.Workload, computed time.Duration) {
			p.pods.Handshake(quota.Key{UID: client.UID, Direction: mesh.Outbound}, computed)
		},
		OnUnreachable: func(ep *upstream.Endpoint, why mesh.Reason) { p.endpoints.Unreachable(ep, why) },
	})
	p.endpoints = endpoints.New(endpoints.Options{
		Log: o.Log, Lifetime: p.lifetime,
		Probe: func(ctx context.Context, from *mesh.Workload, ep mesh.Endpoint) error {
			return p.directory.Probe(ctx, p.upstream, from, ep)
		},
	})
	p.directory = destination.New(destination.Options{
		State: o.State, Network: o.Network, Endpoints: p.endpoints,
		ResolveTimeout: o.Limits.ResolveTimeout, Log: o.Log, StaleKeys: o.StaleKeys, Calls: o.Calls, Limits: o.Leases,
	})
	p.core.Upstream, p.core.State, p.core.Tap, p.core.Log, p.core.Lifetime = p.upstream, o.State, o.Tap, o.Log, p.lifetime
	p.core.Authorizers.Pool, p.core.Authorizers.Ended, p.core.Authorizers.Directory = p.upstream, p.lifetime.Ended, p.directory
	p.core.Sampling, p.core.Logged, p.core.Names = o.Sampling, o.Logged, o.Names
	p.core.Opaque = lifetime.NewGroup(p.lifetime.Ended, func(*request.Opaque) {})
	p.h1, p.h2 = h1.New(&p.core), h2.New(&p.core)
	p.muxes = lifetime.NewGroup(p.lifetime.Retiring, func(c *mux.Conn) { c.Drain() })
	return p
}

// Run does the proxy's periodic work, such as closing idle pooled connections, until ctx
// is done. It then closes all connections to endpoints and agents.
func (p *Proxy) Run(ctx context.Context) {
	pool := make(chan struct{})
	go func() {
		defer close(pool)
		p.upstream.Run()
	}()
	look := make(chan struct{})
	go func() {
		defer close(look)
		p.lookAtLot(ctx)
	}()
	watch, tick := time.NewTicker(upstream.WatchEvery), time.NewTicker(p.Limits.IdleTimeout/6)
	defer watch.Stop()
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.lifetime.End()
			p.endpoints.Wait()
			p.core.Mirrors.Wait()
			<-pool
			p.h1.Close()
			p.h2.CloseAll()
			p.muxes.Each(func(c *mux.Conn) { c.NC.Close() })
			_, _ = p.hangups.Close(), p.lot.Close()
			<-look
			return
		case <-watch.C:
			p.h1.Watch()
			p.judgeAnew()
		case <-tick.C:
			p.endpoints.Forget()
			p.directory.Forget()
		}
	}
}

// lookAtLot has connections that carry nothing give up their goroutines, until ctx is done. It is
// done beside the watch, because it takes its time.
func (p *Proxy) lookAtLot(ctx context.Context) {
	tick := time.NewTicker(upstream.WatchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.lot.Look()
			p.h1.Look(&p.lot)
		}
	}
}

// Retire makes HTTP/1 responses say that their connection closes after them. Call Drain
// some time later: connections in use have then ended by themselves, so that Drain does
// not cut them while their client sends the next request.
func (p *Proxy) Retire() { p.lifetime.Retire() }

// Drain makes every session end soon: idle ones at once, HTTP/1 sessions after the
// response in progress, HTTP/2 sessions by GOAWAY. It does not wait.
func (p *Proxy) Drain() { p.lifetime.Drain() }
