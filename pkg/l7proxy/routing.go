package l7proxy

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
	"github.com/underlane/underlane/pkg/route"
	"github.com/underlane/underlane/pkg/state"
)

// place is a port of a service, and how busy its endpoints are.
type place struct {
	svc      *mesh.Service     // nil: no service
	port     *mesh.ServicePort // nil: the service has no such port
	balancer *balance.Balancer // of port
}

// routing is what the routes of a service port make of the requests of one
// namespace's clients, as one view has it. It is immutable.
type routing struct {
	version  uint64
	routes   []*mesh.Route // what table was compiled of
	table    *route.Table
	backends []place // as table.Backends; without svc where there is no such service
	budget   *retry.Budget
}

// plan is what becomes of one request: where it goes, and changed how.
type plan struct {
	routing *routing // nil: no route has a say
	hit     route.Hit
	action  *route.Action // nil: no route has a say
	draw    uint64        // what action was chosen by
}

// policy says when a failed request is sent again.
func (p *plan) policy() *retry.Policy {
	if p.action == nil {
		return retry.Default
	}
	return p.hit.Rule.Retry
}

// to is the place that the routes send the request to, nil where it goes where
// its client wanted.
func (p *plan) to() *place {
	if p.action == nil {
		return nil
	}
	return &p.routing.backends[p.action.At]
}

// reason is why the proxy answers the request itself, ReasonNone if it is to be
// forwarded or redirected.
func (p *plan) reason() mesh.Reason {
	if p.action.Kind == route.Refuse || p.action.Kind == route.Forward && p.to().svc == nil {
		return mesh.ReasonBadBackend
	}
	return mesh.ReasonNone
}

// timeouts are those of the rule that the request matched.
func (p *plan) timeouts() (t mesh.RouteTimeouts) {
	if p.action != nil {
		t = p.hit.Rule.Timeouts
	}
	return t
}

// fault is what the route does to the request on purpose: hold it back, and
// answer it with status (for gRPC the code of grpc-status) where that is not 0.
func (p *plan) fault(grpc bool) (delay time.Duration, status int) {
	f := p.action.Fault
	if f == nil {
		return 0, 0
	}
	if code, abort := f.Abort(grpc, rand.Uint64()); abort {
		status = code
	}
	return f.Delay(rand.Uint64()), status
}

// routing returns what routes say of the session's requests, nil if there are
// none. A driver asks once a request: only if there is something is the request
// worth describing.
func (s *Session) routing() *routing {
	t, ok := s.target.(*outboundTarget)
	if !ok {
		return nil
	}
	return t.look(s.proxy).routing
}

// plan finds what is to become of a request. The error is a *mesh.ReasonError:
// no rule is for such requests. draw is any 64 bits.
func (r *routing) plan(req *route.Request, draw uint64, p *plan) error {
	hit, verdict := r.table.Match(req)
	switch verdict {
	case route.NoRule:
		return mesh.Fail(mesh.ReasonNoRoute, nil)
	case route.Matched:
		*p = plan{routing: r, hit: hit, action: hit.Rule.Choose(draw), draw: draw}
	}
	return nil
}

// routings keeps what was compiled of routes, for all sessions that it holds
// for.
type routings struct {
	mu     sync.Mutex
	byPort map[routingKey]*routing
	round  uint64
	used   map[routingKey]uint64 // in which round
}

type routingKey struct {
	parent mesh.ServicePortRef
	client string // namespace
	node   string
	v4     bool
}

// get returns the routing of a service port for local's requests, nil if no
// route has a say.
func (p *Proxy) routing(v *state.View, svc *mesh.Service, port *mesh.ServicePort, local *mesh.Workload, v4 bool) *routing {
	all := v.Routes(svc)
	if len(all) == 0 {
		return nil
	}
	key := routingKey{mesh.ServicePortRef{Namespace: svc.Namespace, Name: svc.Name, Port: port.Port}, local.Namespace, local.Node, v4}
	r := &p.routings
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used[key] = r.round
	was := r.byPort[key]
	if was != nil && was.version >= v.Version() {
		return was.orNil()
	}
	now := &routing{version: v.Version(), routes: route.Select(all, key.parent, key.client)}
	if was != nil && slices.Equal(was.routes, now.routes) {
		now.routes, now.table = was.routes, was.table
	} else {
		var err error
		if now.table, err = route.Compile(now.routes); err != nil {
			p.Log.Warn("a route has no effect: it cannot be compiled", "service", svc.Namespace+"/"+svc.Name, "cause", err)
		}
	}
	for _, ref := range now.table.Backends() {
		now.backends = append(now.backends, p.place(v, ref, local, v4))
	}
	now.budget = p.budgets.get(svc)
	r.byPort[key] = now
	return now.orNil()
}

// orNil is nil where no route has a say.
func (r *routing) orNil() *routing {
	if len(r.routes) == 0 {
		return nil
	}
	return r
}

// place finds a backend for clients like local.
func (p *Proxy) place(v *state.View, ref mesh.ServicePortRef, local *mesh.Workload, v4 bool) place {
	svc, ok := v.ServiceByName(ref.Namespace, ref.Name)
	if !ok {
		return place{}
	}
	i := slices.IndexFunc(svc.Ports, func(port mesh.ServicePort) bool { return port.Port == ref.Port })
	if i < 0 {
		return place{}
	}
	port := &svc.Ports[i]
	return place{svc: svc, port: port, balancer: p.balancers.get(svc, port, local, v4, v.Version())}
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
