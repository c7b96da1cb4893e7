package request

import (
	"math/rand/v2"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
	"github.com/underlane/underlane/pkg/route"
)

// Plan is the result of the routes for one request: the backend and the changes. The
// zero value is the plan of a request to which no route applies.
type Plan struct {
	Action *route.Action // nil: no route applies
	Hit    route.Hit
	Random uint64 // the random bits by which Action was chosen

	// Egress has let the request out by its names; nil: none did.
	Egress *destination.Egress

	routing *destination.Routing
	named   *destination.Backend // that the request itself names, see Session.Name; nil: none
}

// Policy returns the policy that decides whether a failed request is retried.
func (p *Plan) Policy() *retry.Policy {
	if p.Action == nil {
		return retry.Default
	}
	return p.Hit.Rule.Retry
}

// Backend returns the backend that the routes have chosen, or that the request names. It is
// nil if there is neither, so that the request goes to its client's destination.
func (p *Plan) Backend() *destination.Backend {
	switch {
	case p.Action == nil:
		return p.named
	case p.Action.Original:
		return nil
	}
	return &p.routing.Backends[p.Action.BackendIndex]
}

// Timeouts returns the timeouts of the rule that the request matched.
func (p *Plan) Timeouts() (t mesh.RouteTimeouts) {
	if p.Action != nil {
		t = p.Hit.Rule.Timeouts
	}
	return t
}

// Route plans a request, and records in x the rule that it matched. If answer has a
// status, the proxy answers the request itself. delay is the delay of the route's fault:
// the driver waits for it before it answers or forwards the request.
func (s *Session) Route(r *destination.Routing, asked *route.Request, p *Plan, x *Exchange) (answer reply.Reply, delay time.Duration) {
	draw := s.RouteRandom()
	hit, verdict := r.Match(asked)
	switch {
	case (verdict == route.NoRule || verdict == route.Doubt) && r.Egress == nil:
		return reply.Of(mesh.ReasonNoRoute), 0
	case verdict == route.Matched:
		*p = Plan{routing: r, named: p.named, Egress: r.Egress, Hit: hit, Action: hit.Rule.Choose(draw), Random: draw}
	case r.Egress != nil:
		x.Routed(r.Egress.Default)
		if r.Egress.Network.Deny || verdict == route.Doubt {
			return reply.Of(mesh.ReasonEgressDenied), 0
		}
		p.Egress = r.Egress
		return reply.Reply{}, 0
	default:
		return reply.Reply{}, 0
	}
	x.Routed(hit.Rule)
	r.Budget.Request(balance.Now())
	delay, abort := p.fault(asked.GRPC)
	if abort != 0 {
		return reply.Fault(abort, asked.GRPC), delay
	}
	a := p.Action
	if a.Kind == route.Refuse || a.Kind == route.Forward && !a.Original && p.Backend().Service == nil {
		return reply.Of(mesh.ReasonBadBackend), delay
	}
	if a.Kind == route.Redirect {
		port := s.Original.Port()
		if p.named != nil {
			port = p.named.Port.Port
		}
		location := a.AppendLocation(nil, asked, hit, port)
		return reply.Reply{Status: a.Status, Location: string(location)}, delay
	}
	return reply.Reply{}, delay
}

// fault returns what the route's fault does with the request: a delay, and a status (for
// gRPC a grpc-status) with which the proxy answers it; 0: it is forwarded.
func (p *Plan) fault(grpc bool) (delay time.Duration, status int) {
	f := p.Action.Fault
	if f == nil {
		return 0, 0
	}
	if code, abort := f.Abort(grpc, rand.Uint64()); abort {
		status = code
	}
	return f.Delay(rand.Uint64()), status
}
