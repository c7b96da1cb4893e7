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

// Backend is a port of a service, and how busy its endpoints are.
type Backend struct {
	Service  *mesh.Service     // nil: no service
	Port     *mesh.ServicePort // nil: the service has no such port
	Balancer *balance.Balancer // of Port
}

// Routing is what the routes of a service port make of the requests of one
// namespace's clients, as one view has it. It is immutable.
type Routing struct {
	Table    *route.Table
	Backends []Backend // as Table.Backends; without Service where there is no such service
	Budget   *retry.Budget

	version uint64
	routes  []*mesh.Route // what Table was compiled of
}

// routings keeps what was compiled of routes, for all sessions that it holds
// for.
type routings struct {
	mu     sync.Mutex
	byPort map[routingKey]*Routing
	round  uint64
	used   map[routingKey]uint64 // in which round
}

type routingKey struct {
	parent mesh.ServicePortRef
	client string // namespace
	node   string
	v4     bool
}

// routing returns the routing of a service port for local's requests, nil if no
// route has a say.
func (d *Directory) routing(v *state.View, svc *mesh.Service, port *mesh.ServicePort, local *mesh.Workload, v4 bool) *Routing {
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
	for _, ref := range now.Table.Backends() {
		now.Backends = append(now.Backends, d.backend(v, ref, local, v4))
	}
	now.Budget = d.budgets.get(svc)
	r.byPort[key] = now
	return now.orNil()
}

// orNil is nil where no route has a say.
func (r *Routing) orNil() *Routing {
	if len(r.routes) == 0 {
		return nil
	}
	return r
}

// backend finds a backend for clients like local.
func (d *Directory) backend(v *state.View, ref mesh.ServicePortRef, local *mesh.Workload, v4 bool) Backend {
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

// forget drops what no session has asked for in a while.
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

// get returns the budget of a service: a new one when what it allows has
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
	if err != nil { // the controller has checked it: a newer one's is not understood
		budget, _ = retry.NewBudget(mesh.DefaultRetryBudget)
	}
	b.byName[name] = &serviceBudget{budget, spec}
	return budget
}
