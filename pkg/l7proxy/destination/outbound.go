package destination

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/endpoints"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// Outbound is the target for a connection of a pod of this node: a service's port, a pod,
// or an address that the mesh does not know.
type Outbound struct {
	directory *Directory
	dst       netip.AddrPort
	// known is replaced when the state changes. Pick does that, while other streams of
	// the session begin.
	known atomic.Pointer[knowledge]
	// touch is when dst is to be subscribed to, by balance.Now. The state forgets addresses
	// that are not subscribed to again.
	touch atomic.Int64
	named atomic.Pointer[named]
}

// touchEvery is far below the time after which the state forgets an address.
const touchEvery = 30 * time.Second

// knowledge is what one view knows of a target. It is immutable.
type knowledge struct {
	version    uint64         // of the view
	local      *mesh.Workload // the client
	Backend                   // without Service: the destination is not a service
	pod        *mesh.Workload // the destination, if it is a pod
	unanswered bool           // the controller has not answered about the address
	routing    *Routing       // of the service's port, or egress; nil: no route applies
	egress     *Egress        // what an EgressNetwork says about the target; nil: nothing
}

// Outbound returns the target of a connection that local, a pod of this node, made to dst. It
// calls aside with the function that waits for the controller, if it must wait.
func (d *Directory) Outbound(local *mesh.Workload, dst netip.AddrPort, aside func(wait func())) *Outbound {
	t := &Outbound{directory: d, dst: dst}
	t.known.Store(&knowledge{local: local})
	t.lookAside(aside)
	return t
}

// Service implements Target.
func (t *Outbound) Service() *mesh.Service { return t.known.Load().Backend.Service }

// Peer implements Target.
func (t *Outbound) Peer() tap.Peer { return tap.Peer{Addr: t.dst, Workload: t.known.Load().pod} }

// Routing implements Target.
func (t *Outbound) Routing() *Routing { return t.look().routing }

// HasRequestRules implements Target.
func (t *Outbound) HasRequestRules() bool {
	k := t.look()
	if k.routing != nil && k.routing.Egress == nil || k.egress != nil && k.egress.requests ||
		k.local.Settings.Ingress || t.directory.ruledAt(k.pod, t.dst.Port()) {
		return true
	}
	if k.Port != nil {
		for _, ep := range k.Port.Endpoints {
			if t.directory.ruledAt(ep.Workload, ep.Addr.Port()) {
				return true
			}
		}
	}
	return false
}

// look returns what the newest view knows of the target. If the view does not have the
// address, look asks the controller. This happens at the beginning of a session, and also
// later, because a session may last longer than the state keeps an address that is not
// used. In that case the last answer stays valid until there is a new one: a destination
// in the mesh must not become an unknown one, which is reached in plaintext.
func (t *Outbound) look() *knowledge { return t.lookAside(inPlace) }

func inPlace(wait func()) { wait() }

func (t *Outbound) lookAside(aside func(wait func())) *knowledge {
	if now, due := int64(balance.Now()), t.touch.Load(); now >= due && t.touch.CompareAndSwap(due, now+int64(touchEvery)) {
		t.directory.State.Subscribe(t.dst.Addr())
	}
	return lookAgain(t, aside)
}

// lookAgain is lookAside soon after another look: it does not ask whether to subscribe.
func lookAgain(t *Outbound, aside func(wait func())) *knowledge {
	d, addr := t.directory, t.dst.Addr()
	was, v := t.known.Load(), d.State.View()
	if was.version == v.Version() {
		return was
	}
	key := sharedKey{was.local.UID, t.dst}
	if k := d.shared.get(v.Version(), key); k != nil {
		t.known.Store(k)
		return k
	}
	if !v.Answered(addr) {
		aside(func() { d.Resolve(context.Background(), addr) })
		v = d.State.View()
	}
	now := *was
	now.version = v.Version()
	w, local := v.WorkloadByUID(was.local.UID)
	if local {
		now.local = w // the client's settings may have changed
	}
	if v.Answered(addr) || was.version == 0 {
		now.unanswered = !v.Answered(addr)
		now.pod, _ = v.Workload(addr)
		now.Backend.Service, now.Port, _ = v.Service(t.dst)
		now.routing = nil
		if now.Port != nil {
			if now.Port != was.Port {
				now.Balancer = d.Endpoints.Balancer(now.Backend.Service, now.Port, now.local, addr.Is4(), now.version)
			}
			now.routing = d.routing(v, now.Backend.Service, now.Port, now.local, addr.Is4())
		}
	}
	now.outside(d, v, t.dst)
	t.known.Store(&now)
	if local && v.Answered(addr) {
		d.shared.put(key, &now)
	}
	return &now
}

// Opaque implements Target.
func (t *Outbound) Opaque() bool {
	k := t.known.Load()
	if mesh.InRanges(k.local.Settings.OpaquePorts, t.dst.Port()) {
		return true
	}
	if k.Port == nil {
		return k.pod != nil && mesh.InRanges(k.pod.Settings.OpaquePorts, t.dst.Port())
	}
	for _, ep := range k.Port.Endpoints {
		if ep.Workload != nil && mesh.InRanges(ep.Workload.Settings.OpaquePorts, ep.Addr.Port()) {
			return true
		}
	}
	return false
}

// errUnanswered refuses a connection to an address about which the controller has not
// answered. Otherwise an attacker who cuts the node off from the controller could make
// the agent send plaintext to a pod of the mesh.
var errUnanswered = errors.New("the controller does not say whose address it is, and it may be in the mesh, or the client fails closed")

// errUnasked refuses bytes that are no request where an authorizer has to allow requests: what the
// server reads as one would not be asked about.
var errUnasked = errors.New("an external authorizer has to allow the requests to the Service, and the connection is not read as requests")

// Pick implements Target.
func (t *Outbound) Pick(a *endpoints.Attempt, q Query) error {
	d, k := t.directory, lookAgain(t, inPlace) // callers have looked up the routes, or the target is new
	to := q.Backend
	if to == nil {
		to = &k.Backend
	}
	if q.Opaque && k.routing != nil && k.routing.asks {
		return mesh.Fail(mesh.ReasonExternalDenied, errUnasked)
	}
	judged := k.egress
	if q.Opaque && judged != nil {
		other, err := judged.opaque(q.Said, rand.Uint64())
		if err != nil {
			return err
		}
		if other != nil {
			to = other
		}
	} else if !q.Opaque && (q.Backend != nil || k.routing != nil && k.routing.Egress == nil) {
		judged = nil // the Service's routes judged the request, or it names its Service
	}
	if to.Service == nil {
		if k.unanswered && (k.local.Settings.FailClosed || d.State.View().InRange(t.dst.Addr())) {
			return mesh.Fail(mesh.ReasonTimeout, errUnanswered)
		}
		return d.choose(a, k.local, &mesh.Endpoint{Addr: t.dst, Workload: k.pod, Ready: true}, &q)
	}
	if to.Port == nil {
		return mesh.Fail(mesh.ReasonNoEndpoints, errors.New("the service "+to.Service.Namespace+"/"+to.Service.Name+" has no such port"))
	}
	ticket, ok := to.prefer(&q)
	if !ok {
		ticket, ok = to.balance(k.local, t.dst.Addr(), q.Exclude)
	}
	if !ok {
		return mesh.Fail(mesh.ReasonNoEndpoints, nil)
	}
	ep := &ticket.Endpoint.Endpoint
	err := d.admitOutside(k.local, to, ep, judged)
	if err == nil {
		err = d.choose(a, k.local, ep, &q)
	} else {
		a.Reset()
		a.Endpoint.Peer.Addr, a.Client = ep.Addr, k.local
		a.Expect()
	}
	d.Endpoints.Balanced(a, to.Balancer, ticket, to.Balancer.Len() > len(q.Exclude)+1)
	if err != nil {
		a.Done()
	}
	return err
}

// prefer picks the first endpoint to which the session has a private connection, ejected
// or not.
func (to *Backend) prefer(q *Query) (balance.Ticket, bool) {
	for _, addr := range q.Prefer {
		if slices.Contains(q.Exclude, addr) {
			continue
		}
		if ticket, ok := to.Balancer.PickAt(balance.Now(), addr); ok {
			return ticket, true
		}
	}
	return balance.Ticket{}, false
}

// balance picks an endpoint of the backend for local, a client that connected to dst.
func (to *Backend) balance(local *mesh.Workload, dst netip.Addr, exclude []netip.AddrPort) (balance.Ticket, bool) {
	now := balance.Now()
	if to.Service.SessionAffinity {
		return to.Balancer.PickFor(now, affine(local, dst), exclude...)
	}
	return to.Balancer.Pick(now, exclude...)
}

// affine is the address that stands for a client pod in session affinity.
func affine(local *mesh.Workload, dst netip.Addr) netip.Addr {
	return PodAddress(local, dst, netip.Addr{})
}
