package destination

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
	"github.com/underlane/underlane/pkg/route"
	"github.com/underlane/underlane/pkg/state"
)

// Said is what the client of an opaque connection has said by its first bytes. The zero
// Said is that of a client that has said nothing, or that does not speak TLS.
type Said struct {
	TLS bool
	SNI string
}

// Egress is what an EgressNetwork and its routes say about the connections that clients of
// one namespace make to a port of its addresses. It is immutable.
type Egress struct {
	Network *mesh.EgressNetwork
	// Default stands in tap and the metrics for the network's own trafficPolicy, which
	// decides about what no route is about.
	Default *route.Rule

	http     *Routing // of requests; never nil
	requests bool     // http has routes of requests, and not of connections
	tls, tcp *Routing // nil: no routes
	denied   error

	version uint64
	routes  []*mesh.Route // all of the network
	began   time.Time     // when it began to decide
}

// egresses caches what was compiled.
type egresses struct {
	mu     sync.Mutex
	byPort map[routingKey]*Egress
	round  uint64
	used   map[routingKey]uint64
}

// egress compiles the routes of n for local's connections to port.
func (d *router) egress(v *state.View, n *mesh.EgressNetwork, port uint16, local *mesh.Workload, v4 bool) *Egress {
	all := v.EgressRoutes(n)
	if !slices.ContainsFunc(all, func(r *mesh.Route) bool { return r.Parent.Port == port }) {
		port = 0 // the client chooses the ports: what is kept must not grow with them
	}
	key := routingKey{mesh.ServicePortRef{Namespace: n.Namespace, Name: n.Name, Port: port}, local.Namespace, local.Node, v4}
	c := &d.egresses
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byPort == nil {
		c.byPort, c.used = map[routingKey]*Egress{}, map[routingKey]uint64{}
	}
	c.used[key] = c.round
	was := c.byPort[key]
	if was != nil && was.version >= v.Version() {
		return was
	}
	now := &Egress{Network: n, version: v.Version(), routes: all, began: time.Now()}
	budget, _ := retry.NewBudget(mesh.DefaultRetryBudget)
	if was != nil {
		budget = was.http.Budget
	}
	if was != nil && was.Network == n && slices.Equal(was.routes, all) {
		*now = *was
		now.version = v.Version()
		for _, r := range []**Routing{&now.http, &now.tls, &now.tcp} {
			if *r != nil {
				*r = d.egressRouting(v, now, (*r).routes, (*r).Table, local, v4)
			}
		}
	} else {
		now.compile(d, v, key, local, v4)
	}
	now.http.Budget = budget
	c.byPort[key] = now
	return now
}

func (e *Egress) compile(d *router, v *state.View, key routingKey, local *mesh.Workload, v4 bool) {
	n := e.Network
	e.Default = &route.Rule{
		Route: &mesh.Route{Kind: "EgressNetwork", Namespace: n.Namespace, Name: n.Name, Egress: true}, Label: "default",
	}
	why := "its trafficPolicy is Deny, and no route allows it"
	if n.Unknown != "" {
		why = n.Unknown
	}
	e.denied = mesh.Fail(mesh.ReasonEgressDenied, fmt.Errorf("EgressNetwork %s/%s: %s", n.Namespace, n.Name, why))
	layer := func(l mesh.RouteLayer) []*mesh.Route {
		if n.Unknown != "" {
			return nil
		}
		var of []*mesh.Route
		for _, r := range e.routes {
			if r.Layer == l {
				of = append(of, r)
			}
		}
		return route.Select(of, key.parent, key.client)
	}
	http, tls, tcp := layer(mesh.LayerHTTP), layer(mesh.LayerTLS), layer(mesh.LayerTCP)
	e.requests = len(http) > 0
	if !e.requests {
		http = tcp // they are about every connection that other routes are not about
	}
	e.http = d.egressRouting(v, e, http, nil, local, v4)
	if len(tls) > 0 {
		e.tls = d.egressRouting(v, e, tls, nil, local, v4)
	}
	if len(tcp) > 0 {
		e.tcp = d.egressRouting(v, e, tcp, nil, local, v4)
	}
}

// egressRouting makes the Routing of some routes. table is the compiled one; nil: compile it.
func (d *router) egressRouting(v *state.View, e *Egress, routes []*mesh.Route, table *route.Table, local *mesh.Workload, v4 bool) *Routing {
	if table == nil {
		var err error
		if table, err = route.Compile(routes); err != nil {
			d.Log.Warn("a route has no effect: it cannot be compiled", "network", e.Network.Namespace+"/"+e.Network.Name, "cause", err)
		}
	}
	r := &Routing{Table: table, Egress: e, version: v.Version(), routes: routes}
	for _, ref := range table.Backends() {
		b := d.backend(v, ref, local, v4)
		b.ruled = true
		r.Backends = append(r.Backends, b)
	}
	return r
}

// LooksInside reports whether what the client says decides: its connection may be opened
// only afterwards.
func (e *Egress) LooksInside() bool { return e != nil && (e.requests || e.tls != nil) }

// LooksAtTLS reports whether the server name of TLS decides. e may be nil.
func (e *Egress) LooksAtTLS() bool { return e != nil && e.tls != nil }

// Denied returns the error for what is refused.
func (e *Egress) Denied() error { return e.denied }

// opaque decides about a connection that is not read as requests. It returns the backend
// that a route has chosen by random, or nil for where the client wanted to connect to. The
// error is a *mesh.ReasonError.
func (e *Egress) opaque(said Said, random uint64) (*Backend, error) {
	by := e.tcp
	if said.TLS && e.tls != nil {
		by = e.tls
	}
	if by != nil {
		hit, verdict := by.Table.Match(&route.Request{Authority: said.SNI, Path: "/"})
		if verdict == route.Matched {
			a := hit.Rule.Choose(random)
			switch {
			case a.Kind != route.Forward, !a.Original && by.Backends[a.BackendIndex].Service == nil:
				return nil, mesh.Fail(mesh.ReasonBadBackend, nil)
			case a.Original:
				return nil, nil
			}
			return &by.Backends[a.BackendIndex], nil
		}
	}
	if e.Network.Deny {
		return nil, e.denied
	}
	return nil, nil
}

// forgetEgress drops what was not used in the last 60 rounds.
func (c *egresses) forget() {
	const rounds = 60
	c.mu.Lock()
	defer c.mu.Unlock()
	c.round++
	for key, used := range c.used {
		if c.round-used > rounds {
			delete(c.byPort, key)
			delete(c.used, key)
		}
	}
}
