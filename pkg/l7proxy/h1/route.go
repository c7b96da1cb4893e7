package h1

import (
	"slices"
	"time"
	"unsafe"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/route"
)

// fields gives the routes access to the fields of a head.
type fields http1.Head

func (f *fields) Get(name string) (string, bool) {
	value := (*http1.Head)(f).Get(name)
	return unsafeString(value), value != nil
}

// unsafeString returns b as a string without a copy. It is valid while b is unchanged.
func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// routeRequest describes a request for the routes. Its strings lie in the buffer of the head.
func routeRequest(h *http1.Head) route.Request {
	return route.Request{
		GRPC:      h.IsGRPC(),
		Method:    unsafeString(h.Method()),
		Authority: unsafeString(h.Authority()),
		Path:      unsafeString(h.Path()),
		Fields:    (*fields)(h),
	}
}

// route applies the routes to the request: it sets d.plan and adds the changes to edits.
// If the returned reply has a status, the proxy answers the request with it. If its reason is
// ReasonClientReset, the client has gone.
func (d *decider) route(r *destination.Routing, edits *http1.Edits) reply.Reply {
	d.asked = routeRequest(&d.req)
	answer, delay := d.s.Route(r, &d.asked, &d.plan, &d.x)
	if limit := d.plan.Timeouts().Request; limit > 0 {
		d.deadline = d.x.Began().Add(limit)
	}
	if delay > 0 && !d.pause(delay) {
		if _, gone := d.s.Client.PeerClosed(); gone {
			return reply.Of(mesh.ReasonClientReset)
		}
		return reply.Of(mesh.ReasonTimeout)
	}
	a := d.plan.Action
	if answer.Status != 0 || a == nil {
		return answer
	}
	if a.RewritesTarget() {
		d.target = a.AppendTarget(d.target[:0], &d.asked, d.plan.Hit)
		edits.Target = unsafeString(d.target)
	}
	edits.Host, edits.Remove, edits.Add = a.Host, a.Request.Remove, a.Request.Add
	return answer
}

// name finds the Service that the request names, and returns the routes that apply.
func (d *decider) name(o *request.Override) (*destination.Routing, error) {
	for name, value := range d.req.Fields() {
		o.Add(unsafeString(name), unsafeString(value))
	}
	return d.s.Name(o, unsafeString(d.req.Authority()), &d.plan, &d.x)
}

// clientLook is how often pause checks that the client is still there.
const clientLook = time.Second

// pause delays the request. It returns false if the deadline has passed or the client has
// gone.
func (d *sender) pause(wait time.Duration) bool {
	for end := time.Now().Add(wait); ; {
		left := time.Until(end)
		if left <= 0 {
			return true
		}
		if !d.deadline.IsZero() {
			until := time.Until(d.deadline)
			if until <= 0 {
				return false
			}
			left = min(left, until)
		}
		time.Sleep(min(left, clientLook))
		if _, gone := d.s.Client.PeerClosed(); gone {
			return false
		}
	}
}

// editResponse adds the route's changes of the response to edits.
func (d *decider) editResponse(edits *http1.Edits) {
	if a := d.plan.Action; a != nil && !a.Response.Empty() {
		edits.Remove, edits.Add = a.Response.Remove, a.Response.Add
	}
	if more := d.check.Response(); len(more) > 0 {
		edits.Add = slices.Concat(edits.Add, more)
	}
}
