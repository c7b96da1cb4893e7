package l7proxy

import (
	"time"
	"unsafe"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/route"
)

// h1Fields shows a head's fields to the routes.
type h1Fields http1.Head

func (f *h1Fields) Get(name string) (string, bool) {
	value := (*http1.Head)(f).Get(name)
	return text(value), value != nil
}

// text shows bytes as a string, without a copy: it holds as long as they do.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// route finds what the routes make of the request, and adds its changes to
// edits. With a status in the reply the proxy answers it itself.
func (d *h1) route(r *routing, edits *http1.Edits) (reply http1.Reply) {
	d.asked = route.Request{
		GRPC:      d.req.IsGRPC(),
		Method:    text(d.req.Method()),
		Authority: text(d.req.Authority()),
		Path:      text(d.req.Path()),
		Fields:    (*h1Fields)(&d.req),
	}
	if err := r.plan(&d.asked, d.s.draw(), &d.plan); err != nil {
		return http1.ReplyOf(reasonOf(err))
	}
	a := d.plan.action
	if a == nil {
		return http1.Reply{}
	}
	d.x.Routed(d.plan.hit.Rule)
	r.budget.Request(balance.Now())
	if limit := d.plan.timeouts().Request; limit > 0 {
		d.deadline = d.x.began.Add(limit)
	}
	delay, status := d.plan.fault(d.asked.GRPC)
	if delay > 0 {
		time.Sleep(delay)
	}
	if status != 0 {
		return faultReply(status, d.asked.GRPC)
	}
	if reason := d.plan.reason(); reason != mesh.ReasonNone {
		return http1.ReplyOf(reason)
	}
	if a.Kind == route.Redirect {
		location := a.AppendLocation(nil, &d.asked, d.plan.hit, d.s.Original.Port())
		return http1.Reply{Status: a.Status, Location: string(location)}
	}
	if a.RewritesTarget() {
		d.target = a.AppendTarget(d.target[:0], &d.asked, d.plan.hit)
		edits.Target = text(d.target)
	}
	edits.Host, edits.Remove, edits.Add = a.Host, a.Request.Remove, a.Request.Add
	return http1.Reply{}
}

// faultReply answers a request that is made to fail.
func faultReply(status int, grpc bool) http1.Reply {
	if grpc {
		return http1.Reply{Status: 200, GRPC: status, Reason: mesh.ReasonFault}
	}
	return http1.Reply{Status: status, Reason: mesh.ReasonFault}
}

// editResponse adds the changes that the routes make to the response.
func (d *h1) editResponse(edits *http1.Edits) {
	if a := d.plan.action; a != nil && !a.Response.Empty() {
		edits.Remove, edits.Add = a.Response.Remove, a.Response.Add
	}
}
