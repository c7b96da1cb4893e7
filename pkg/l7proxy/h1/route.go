package h1

import (
	"time"
	"unsafe"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/route"
)

// fields shows a head's fields to the routes.
type fields http1.Head

func (f *fields) Get(name string) (string, bool) {
	value := (*http1.Head)(f).Get(name)
	return unsafeString(value), value != nil
}

// unsafeString shows bytes as a string, without a copy: it holds as long as they do.
func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// route finds what the routes make of the request, and adds its changes to
// edits. With a status in the answer the proxy gives it itself.
func (d *session) route(r *destination.Routing, edits *http1.Edits) reply.Reply {
	d.asked = route.Request{
		GRPC:      d.req.IsGRPC(),
		Method:    unsafeString(d.req.Method()),
		Authority: unsafeString(d.req.Authority()),
		Path:      unsafeString(d.req.Path()),
		Fields:    (*fields)(&d.req),
	}
	answer, delay := d.s.Route(r, &d.asked, &d.plan, &d.x)
	if limit := d.plan.Timeouts().Request; limit > 0 {
		d.deadline = d.x.Began().Add(limit)
	}
	if delay > 0 && !d.pause(delay) {
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

// clientLook is how often a client is looked for while its request is held back.
const clientLook = time.Second

// pause holds the request back. False: its time is over, or its client has gone.
func (d *session) pause(wait time.Duration) bool {
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

// editResponse adds the changes that the routes make to the response.
func (d *session) editResponse(edits *http1.Edits) {
	if a := d.plan.Action; a != nil && !a.Response.Empty() {
		edits.Remove, edits.Add = a.Response.Remove, a.Response.Add
	}
}
