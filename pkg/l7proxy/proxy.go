// Package l7proxy is the node's proxy: it takes captured connections, finds out
// what they speak, chooses endpoints per request, carries the bytes, between
// nodes under mutual TLS, and tells tap what happened.
//
// The life of a connection: serve.go (where it wants to go, package destination) →
// first.go (which side speaks first, and what) → packages h1, h2 or opaque (the driver
// of its protocol) → package request (what becomes of each request: routes, retries,
// failover) → packages endpoints and upstream (the endpoint, and the connection to it).
package l7proxy

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/h1"
	"github.com/underlane/underlane/pkg/l7proxy/h2"
	"github.com/underlane/underlane/pkg/l7proxy/lifetime"
	"github.com/underlane/underlane/pkg/l7proxy/mux"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
)

// Network makes connections inside the namespaces of this node's pods, and knows
// which of them are enrolled.
type Network interface {
	upstream.Network
	destination.Network
}

// State is what the node knows of the mesh.
type State interface {
	upstream.State
	// IsNode reports whether addr is admitted as the node itself is.
	IsNode(addr netip.Addr) bool
}

// Observer takes tap events.
type Observer = request.Observer

// Limits bound what one connection may take. The zero value of a field means
// its default.
type Limits struct {
	ConnectTimeout   time.Duration // of TCP to an endpoint; default 5 s
	FailoverTimeout  time.Duration // the same while there are other endpoints to try; default 2 s
	HandshakeSilence time.Duration // a peer silent for so long in the handshake counts as no agent; default 3 s
	ResolveTimeout   time.Duration // waiting for the controller's word on an address; default 5 s
	IdleTimeout      time.Duration // of pooled upstream connections; default 60 s
	AgentDownTTL     time.Duration // before a peer found without agent is tried again; default 5 s

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
		{&l.HandshakeSilence, 3 * time.Second},
		// Longer than an agent takes to find the next controller (3 s): an address
		// that is taken for unknown is reached in plaintext.
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

	lifetime  *lifetime.Lifetime
	pods      quota.Pods
	core      request.Core
	upstream  *upstream.Pool
	endpoints *endpoints.Set
	directory *destination.Directory
	h1        *h1.Driver
	h2        *h2.Driver
	muxes     *lifetime.Group[*mux.Conn] // that agents of other nodes have made
	hints     hints
	muxFloods atomic.Uint64
	panics    atomic.Uint64
	ids       atomic.Uint32
}

// New makes a proxy. Run must be called for as long as it serves.
func New(o Options) *Proxy {
	o.Limits = o.Limits.withDefaults()
	p := &Proxy{Options: o, lifetime: lifetime.New()}
	p.pods.MaxConns, p.pods.MaxBuffered = o.Limits.PodConnections, o.Limits.PodBuffer
	p.hints.firstSpeaker = make(map[netip.AddrPort]speaker)
	p.upstream = upstream.New(upstream.Options{
		Network: o.Network, State: o.State, Certs: o.Certs, Log: o.Log, Lifetime: p.lifetime,
		Limits: upstream.Limits{
			Connect: o.Limits.ConnectTimeout, Failover: o.Limits.FailoverTimeout,
			HandshakeSilence: o.Limits.HandshakeSilence, Resolve: o.Limits.ResolveTimeout,
			Idle: o.Limits.IdleTimeout, AgentDownTTL: o.Limits.AgentDownTTL,
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
		ResolveTimeout: o.Limits.ResolveTimeout, Log: o.Log,
	})
	p.core.Upstream, p.core.State, p.core.Tap, p.core.Log, p.core.Lifetime = p.upstream, o.State, o.Tap, o.Log, p.lifetime
	p.h1, p.h2 = h1.New(&p.core), h2.New(&p.core)
	p.muxes = lifetime.NewGroup(p.lifetime.Retiring, func(c *mux.Conn) { c.Drain() })
	return p
}

// Run keeps the proxy's pools tidy until ctx is done, then closes them.
func (p *Proxy) Run(ctx context.Context) {
	pool := make(chan struct{})
	go func() {
		defer close(pool)
		p.upstream.Run()
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
			return
		case <-watch.C:
			p.h1.Watch()
		case <-tick.C:
			p.endpoints.Forget()
			p.directory.Forget()
		}
	}
}

// Retire has responses say that their HTTP/1 connections end with them. Drain is
// to follow: what was in use until then is gone by itself, and is not cut while a
// client sends the next request.
func (p *Proxy) Retire() { p.lifetime.Retire() }

// Drain asks every session to end soon: idle ones at once, HTTP/1 ones after
// the response in progress, HTTP/2 ones by GOAWAY. It does not wait.
func (p *Proxy) Drain() { p.lifetime.Drain() }
