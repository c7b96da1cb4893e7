// Package destination knows where connections want to go: a service's port, a pod,
// or an address outside the mesh; what routes say of it; and, for pods of this node,
// who may come in. It picks an endpoint for each request.
package destination

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Network knows the pods of this node.
type Network interface {
	// Enrolled reports whether the pod's traffic goes through this agent.
	Enrolled(uid string) bool
	// Shared reports whether the node is being handed over: pods that are not
	// enrolled here may be with another agent.
	Shared() bool
}

// Options are what a Directory works with.
type Options struct {
	State          upstream.State
	Network        Network
	Endpoints      *endpoints.Set
	ResolveTimeout time.Duration // waiting for the controller's word on an address
	Log            *slog.Logger
}

// Directory is what all destinations share. Its methods are safe for concurrent use.
type Directory struct {
	Options
	routings   routings
	budgets    budgets
	rateLimits rateLimits
}

// New makes a directory.
func New(o Options) *Directory {
	d := &Directory{Options: o}
	d.routings.byPort, d.routings.used = make(map[routingKey]*Routing), make(map[routingKey]uint64)
	d.budgets.byName = make(map[[2]string]*serviceBudget)
	return d
}

// Forget drops what has not been asked for in a while. It is called at regular
// intervals.
func (d *Directory) Forget() {
	d.routings.forget()
	d.rateLimits.forget(func(uid string) bool { _, ok := d.State.View().WorkloadByUID(uid); return ok })
}

// Resolve makes sure that the view knows dst, if the controller does.
func (d *Directory) Resolve(ctx context.Context, dst netip.Addr) {
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

// Target says where the requests of a session go.
type Target interface {
	// Pick sets a to the endpoint of one request or connection. The error is a
	// *mesh.ReasonError: no endpoint, or the policy of a server on this node.
	Pick(a *endpoints.Attempt, q Query) error
	// Service is the apex service, nil where the destination is none.
	Service() *mesh.Service
	// Peer is the destination as far as it is known before an endpoint is chosen.
	Peer() tap.Peer
	// Routing is what routes say of the requests, nil if they say nothing. A driver
	// asks once a request: only if there is something is the request worth
	// describing.
	Routing() *Routing
	// Ruled reports whether requests are subject to what opaque connections are
	// not: routes, and limits that count requests.
	Ruled() bool
	// Opaque reports whether a setting says that the bytes are not to be looked
	// into.
	Opaque() bool
}

// Query is for one endpoint.
type Query struct {
	Client  *tap.Peer // its identity is proved, or empty
	Session uint32    // whose connections to the application are its own
	Backend *Backend  // where routes send the request, nil if they do not say
	Exclude []netip.AddrPort
	Prefer  []netip.AddrPort // endpoints that the session has connections of its own to
}

// OwnAddress is the pod's address as dst would see it; accepted is what accept()
// said, which is loopback.
func OwnAddress(local *mesh.Workload, dst, accepted netip.Addr) netip.Addr {
	for _, a := range local.Addrs {
		if a.Is4() == dst.Unmap().Is4() {
			return a
		}
	}
	return accepted
}

func limited(w *mesh.Workload) bool {
	return w != nil && (w.Settings.RateLimit != nil || w.Settings.ClientRateLimit != nil)
}
