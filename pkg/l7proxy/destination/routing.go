package destination

import (
	"slices"
	"sync"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
	"github.com/underlane/underlane/pkg/route"
	"github.com/underlane/underlane/pkg/state"
)

// Backend is a port of a service, with the balancer of its endpoints.
type Backend struct {
	Service  *mesh.Service     // nil: no service
	Port     *mesh.ServicePort // nil: the service has no such port
	Balancer *balance.Balancer // of Port
	ruled    bool              // the route of an EgressNetwork has chosen it
}

// Routing has the compiled routes of a service port for the clients of one namespace, in
// one view. It is immutable.
type Routing struct {
	Table    *route.Table
	Backends []Backend // same order as Table.Backends; without Service: there is no such service
	Budget   *retry.Budget
	Egress   *Egress // that decides about requests that no rule matches; nil: the routes are a Service's

	version uint64
	routes  []*mesh.Route // that Table was compiled from
	asks    bool          // an external authorizer has to allow some of the requests
}

// routings caches compiled routes, so that sessions share them.
type routings struct {
	mu     sync.Mutex
	byPort map[routingKey]*Routing
	round  uint64                // counts the calls of forget
	used   map[routingKey]uint64 // round of the last use
}

type routingKey struct {
	parent mesh.ServicePortRef
	client string // namespace
	node   string
	v4     bool
}

// routing returns the routing of a service port for local's requests, or nil if no route
// applies.
func (d *router) routing(v *state.View, svc *mesh.Service, port *mesh.ServicePort, local *mesh.Workload, v4 bool) *Routing {
	all := v.Routes(svc)
	if len(all) == 0 {
		return nil
	}
	key := routingKey{mesh.ServicePortRef{Namespace: svc.Namespace, Name: svc.Name, Port: port.Port}, local.Namespace, local.Node, v4}
	r := &d.routings
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used[key] = r.round
	was := r.byPort[key]
	if was != nil && was.version >= v.Version() {
		return was.orNil()
	}
	now := &Routing{version: v.Version(), routes: route.Select(all, key.parent, key.client)}
	if was != nil && slices.Equal(was.routes, now.routes) {
		now.routes, now.Table = was.routes, was.Table
	} else {
		var err error
		if now.Table, err = route.Compile(now.routes); err != nil {
			d.Log.Warn("a route has no effect: it cannot be compiled", "service", svc.Namespace+"/"+svc.Name, "cause", err)
		}
	}
	now.asks = slices.ContainsFunc(now.routes, (*mesh.Route).Asks)
	for _, ref := range now.Table.Backends() {
		now.Backends = append(now.Backends, d.backend(v, ref, local, v4))
	}
	now.Budget = d.budgets.get(svc)
	r.byPort[key] = now
	return now.orNil()
}

// orNil returns r, or nil if it has no routes.
func (r *Routing) orNil() *Routing {
	if len(r.routes) == 0 {
		return nil
	}
	return r
}

// backend finds a backend for clients like local.
func (d *router) backend(v *state.View, ref mesh.ServicePortRef, local *mesh.Workload, v4 bool) Backend {
	svc, ok := v.ServiceByName(ref.Namespace, ref.Name)
	if !ok {
		return Backend{}
	}
	i := slices.IndexFunc(svc.Ports, func(port mesh.ServicePort) bool { return port.Port == ref.Port })
	if i < 0 {
		return Backend{}
	}
	port := &svc.Ports[i]
	return Backend{Service: svc, Port: port, Balancer: d.Endpoints.Balancer(svc, port, local, v4, v.Version())}
}

// forget drops the routings that were not used in the last 60 rounds.
func (r *routings) forget() {
	const rounds = 60
	r.mu.Lock()
	defer r.mu.Unlock()
	r.round++
	for key, used := range r.used {
		if r.round-used > rounds {
			delete(r.byPort, key)
			delete(r.used, key)
		}
	}
}

// budgets keeps the retry budget of each service.
type budgets struct {
	mu     sync.Mutex
	byName map[[2]string]*serviceBudget // namespace and name
}

type serviceBudget struct {
	*retry.Budget
	spec mesh.RetryBudget
}

// get returns the budget of a service. It makes a new one if the service's setting has
// changed.
func (b *budgets) get(svc *mesh.Service) *retry.Budget {
	spec := mesh.DefaultRetryBudget
	if svc.RetryBudget != nil {
		spec = *svc.RetryBudget
	}
	name := [2]string{svc.Namespace, svc.Name}
	b.mu.Lock()
	defer b.mu.Unlock()
	if was := b.byName[name]; was != nil && was.spec == spec {
		return was.Budget
	}
	budget, err := retry.NewBudget(spec)
	if err != nil { // the controller has checked it, so it comes from a newer version
		budget, _ = retry.NewBudget(mesh.DefaultRetryBudget)
	}
	b.byName[name] = &serviceBudget{budget, spec}
	return budget
}
