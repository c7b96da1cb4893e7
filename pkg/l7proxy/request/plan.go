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

// Plan is what the routes make of one request: where it goes, and changed how. The
// zero value is of a request that no route has a say in.
type Plan struct {
	Action *route.Action // nil: no route has a say
	Hit    route.Hit
	Draw   uint64 // what Action was chosen by

	routing *destination.Routing
}

// Policy says when a failed request is sent again.
func (p *Plan) Policy() *retry.Policy {
	if p.Action == nil {
		return retry.Default
	}
	return p.Hit.Rule.Retry
}

// To is the backend that the routes send the request to, nil where it goes where
// its client wanted.
func (p *Plan) To() *destination.Backend {
	if p.Action == nil {
		return nil
	}
	return &p.routing.Backends[p.Action.At]
}

// Timeouts are those of the rule that the request matched.
func (p *Plan) Timeouts() (t mesh.RouteTimeouts) {
	if p.Action != nil {
		t = p.Hit.Rule.Timeouts
	}
	return t
}

// Route plans a request, and tells x of the rule that it matched. With a status in
// answer the proxy answers the request itself. Whatever becomes of it, it is held back
// for delay before: a fault of the route's.
func (s *Session) Route(r *destination.Routing, asked *route.Request, p *Plan, x *Exchange) (answer reply.Reply, delay time.Duration) {
	draw := s.Draw()
	hit, verdict := r.Table.Match(asked)
	switch verdict {
	case route.NoRule:
		return reply.Of(mesh.ReasonNoRoute), 0
	case route.Matched:
		*p = Plan{routing: r, Hit: hit, Action: hit.Rule.Choose(draw), Draw: draw}
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
	if a.Kind == route.Refuse || a.Kind == route.Forward && p.To().Service == nil {
		return reply.Of(mesh.ReasonBadBackend), delay
	}
	if a.Kind == route.Redirect {
		location := a.AppendLocation(nil, asked, hit, s.Original.Port())
		return reply.Reply{Status: a.Status, Location: string(location)}, delay
	}
	return reply.Reply{}, delay
}

// fault is what the route does to the request on purpose: hold it back, and answer
// it with status (for gRPC the code of grpc-status) where that is not 0.
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
