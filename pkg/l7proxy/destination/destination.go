// Package destination knows the destinations of connections: a service's port, a pod, or
// an address outside the mesh. It picks an endpoint for each request, finds the routes of
// the destination, and decides which clients may connect to pods of this node.
package destination

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/quota"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/limit/lease"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/calls"
	"github.com/underlane/underlane/pkg/policy/jwt"
	"github.com/underlane/underlane/pkg/tap"
)

// Network knows the pods of this node.
type Network interface {
	// Enrolled reports whether the pod's traffic goes through this agent.
	Enrolled(uid string) bool
	// Shared reports whether the node is being handed over: another agent may then have
	// the pods that are not enrolled here.
	Shared() bool
}

// Options configure a Directory.
type Options struct {
	State          upstream.State
	Network        Network
	Endpoints      *endpoints.Set
	ResolveTimeout time.Duration // for the controller's answer about an address
	Log            *slog.Logger
	// StaleKeys is called with the source of keys if these lack the key of a token. nil: it is
	// not called.
	StaleKeys func(source string)
	Calls     *calls.Store // of pods with authorization policies; nil: calls are not remembered
	Limits    *lease.Table // of RateLimitPolicies; nil: the Directory has its own
}

// Directory has what all destinations share. Its methods are safe for concurrent use.
//
// It is made of layers, each of which embeds the one below it and uses none above: waiter,
// router, admission. Directory itself makes the targets, and chooses how they are reached.
type Directory struct {
	admission
	authorizers authorizers
	shared      sharing
}

// admission decides which clients may connect to pods of this node, and which of these
// connect to what is outside the mesh: by policies, limits and EgressNetworks (authz.go,
// serverlimit.go, changed.go).
type admission struct {
	router
	rateLimits   rateLimits
	serverLimits serverLimits
	limits       limits
	peers        peers
	audited      atomic.Uint64
	failed       atomic.Uint64
	tokens       tokens
	changes      changes
}

// router has the compiled routes of Services and EgressNetworks (routing.go, egress.go).
type router struct {
	waiter
	routings routings
	budgets  budgets
	egresses egresses
}

// waiter waits for what the controller has not said yet: whose an address is (home.go).
type waiter struct {
	Options
	elsewhere peerClaims
	unsaid    peerClaims // of which the controller said nothing
}

// New makes a directory.
func New(o Options) *Directory {
	if o.Limits == nil {
		o.Limits = lease.NewTable()
	}
	d := &Directory{}
	d.Options, d.limits.table = o, o.Limits
	d.routings.byPort, d.routings.used = make(map[routingKey]*Routing), make(map[routingKey]uint64)
	d.tokens.cache = jwt.NewCache[quota.Source](rememberedTokens, rememberedTokenBytes)
	d.budgets.byName = make(map[[2]string]*serviceBudget)
	return d
}

// Forget drops data that was not used for a while. Call it at regular intervals.
func (d *Directory) Forget() {
	d.shared.forget()
	d.routings.forget()
	d.egresses.forget()
	d.authorizers.forget()
	known := func(uid string) bool { _, ok := d.State.View().WorkloadByUID(uid); return ok }
	d.tokens.forget(known)
	d.rateLimits.forget(known)
	d.limits.forget(d.State.View(), balance.Now())
	d.serverLimits.forget(func(uid string) *authz.Workload { return d.State.View().Authz(uid) })
}

// Resolve subscribes to dst, and waits until the view has the controller's answer about
// it, at most for ResolveTimeout.
func (d *waiter) Resolve(ctx context.Context, dst netip.Addr) {
	d.State.Subscribe(dst)
	if d.State.View().Answered(dst) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, d.ResolveTimeout)
	defer cancel()
	if err := d.State.Resolve(ctx, dst); err != nil {
		d.Log.Debug("destination not known: forwarded as it is", "dst", dst, "cause", err)
	}
}

// Target is the destination of a session.
type Target interface {
	// Pick sets a to the endpoint of one request or connection. The error is a
	// *mesh.ReasonError: there is no endpoint, or the policy of a server on this node
	// refuses the client.
	Pick(a *endpoints.Attempt, q Query) error
	// Service is the Service that the client connected to; nil: the destination is none.
	Service() *mesh.Service
	// Peer is what is known of the destination before an endpoint is chosen.
	Peer() tap.Peer
	// Routing has the routes of the requests; nil: there are none. A driver calls it
	// once for each request, and needs to describe the request for a match only if
	// there are routes.
	Routing() *Routing
	// Tokens returns what judges the tokens of a request, or nil if nothing does. A driver
	// calls it once for each request, before it forwards the head. The error is a
	// *mesh.ReasonError: the policy of a server on this node refuses the client.
	Tokens(client *tap.Peer, asked Asker) (*Tokens, *calls.Entry, error)
	// Asks returns which external authorizer the policies of a server on this node ask about a
	// request, or nil. A driver calls it once for each request, after its tokens were judged.
	Asks(client *tap.Peer, asked Asker) *Asks
	// Refused returns how the policies have decided about a request that an authorizer has
	// refused; asked says so.
	Refused(client *tap.Peer, asked Asker) *calls.Entry
	// Local is the pod of this node at one end of the connection.
	Local() *mesh.Workload
	// Ingress reports whether requests may name the Service that they are for. Drivers ask
	// after Routing.
	Ingress() bool
	// Named returns the Service that a request names by its override field, or, if override
	// is "", by its authority. nil: it goes to the destination. The error, a
	// *mesh.ReasonError, says why it can go nowhere. The strings are not kept.
	Named(override, authority string) (*Named, error)
	// HasRequestRules reports whether rules apply to requests that do not apply to
	// opaque connections: routes, limits that count requests, and policies that look
	// at them. A pod with Ingress has such rules.
	HasRequestRules() bool
	// Egress is what an EgressNetwork says about the destination; nil: nothing.
	Egress() *Egress
	// Opaque reports whether a setting makes connections to the destination opaque.
	Opaque() bool
}

// Query asks for one endpoint.
type Query struct {
	Client  *tap.Peer // its identity is proven, or empty
	Session uint32    // connections to an application of this node are private to it
	Backend *Backend  // that the routes have chosen; nil: no route applies
	Asked   Asker     // the request; nil: the connection is not read as requests
	Opaque  bool      // without Asked: it is a connection that carries no requests, and no other try of a request
	Said    Said      // of the client of an opaque connection
	Exclude []netip.AddrPort
	Prefer  []netip.AddrPort // endpoints to which the session has private connections
}

// PodAddress returns the address of the pod that dst would see as its client: the one of
// the same family. If the pod has none, it returns accepted, the loopback address that
// accept() gave.
func PodAddress(local *mesh.Workload, dst, accepted netip.Addr) netip.Addr {
	for _, a := range local.Addrs {
		if a.Is4() == dst.Unmap().Is4() {
			return a
		}
	}
	return accepted
}

// ruled reports whether the agent of w has rules for requests.
func ruled(w *mesh.Workload) bool {
	return w != nil && (w.RequestRules || w.Settings.RateLimit != nil || w.Settings.ClientRateLimit != nil)
}
