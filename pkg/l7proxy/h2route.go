package l7proxy

import (
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/route"
)

// h2Fields shows a head's fields to the routes.
type h2Fields []http2.Field

func (f *h2Fields) Get(name string) (string, bool) {
	for i := range *f {
		if (*f)[i].Name == name {
			return (*f)[i].Value, true
		}
	}
	return "", false
}

// route does with the request what the routes say of it.
func (st *h2stream) route(r *routing, line *RequestLine, b *h2batch) {
	asked := route.Request{
		GRPC: line.GRPC, Method: line.Method, Scheme: line.Scheme, Authority: line.Authority, Path: line.Path,
		Fields: (*h2Fields)(&st.fields),
	}
	if err := r.plan(&asked, st.srv.session.draw(), &st.plan); err != nil {
		st.fail(reasonOf(err), b)
		return
	}
	if st.plan.action == nil {
		st.start(noEndpoint, nil, b)
		return
	}
	st.exchange.Routed(st.plan.hit.Rule)
	r.budget.Request(balance.Now())
	if limit := st.plan.timeouts().Request; limit > 0 {
		st.due(limit)
		st.limit = st.after(limit, wholeStream, (*h2stream).requestLate)
	}
	delay, status := st.plan.fault(line.GRPC)
	reply := st.reply(&asked, status)
	if reply.Status == 0 {
		st.edit(&asked)
	}
	if delay > 0 {
		st.startIn(delay, reply)
		return
	}
	st.startOr(&reply, b)
}

// reply is what the routes have the proxy answer itself; without a status the
// request is to be forwarded. abort is the status of a fault.
func (st *h2stream) reply(asked *route.Request, abort int) http1.Reply {
	if abort != 0 {
		return faultReply(abort, asked.GRPC)
	}
	if reason := st.plan.reason(); reason != mesh.ReasonNone {
		return http1.ReplyOf(reason)
	}
	if a := st.plan.action; a.Kind == route.Redirect {
		location := a.AppendLocation(nil, asked, st.plan.hit, st.srv.session.Original.Port())
		return http1.Reply{Status: a.Status, Location: string(location)}
	}
	return http1.Reply{}
}

// startIn is startOr after a delay. What comes of the body meanwhile waits in
// its pipe.
func (st *h2stream) startIn(delay time.Duration, reply http1.Reply) {
	st.timer = st.after(delay, st.attempt, func(st *h2stream, b *h2batch) { st.startOr(&reply, b) })
}

// startOr sends the request, unless there is a reply to it.
func (st *h2stream) startOr(reply *http1.Reply, b *h2batch) {
	if reply.Status != 0 {
		st.answer(reply, b)
		return
	}
	st.copying = len(st.plan.action.Mirrors) > 0 && fieldValue(st.fields, ":method") != "CONNECT"
	st.mirror(b)
	st.start(noEndpoint, nil, b)
}

// edit makes the routes' changes to the request.
func (st *h2stream) edit(asked *route.Request) {
	a := st.plan.action
	if a.RewritesTarget() {
		var buf [256]byte
		st.setField(":path", string(a.AppendTarget(buf[:0], asked, st.plan.hit)))
	}
	if a.Host != "" {
		named := st.setField(":authority", a.Host)
		if !st.setField("host", a.Host) && !named {
			st.fields = slices.Insert(st.fields, 0, http2.Field{Name: ":authority", Value: a.Host})
		}
	}
	if !a.Request.Empty() {
		old := st.fields
		st.fields = appendEdited(old[:0], old, &a.Request)
		if len(st.fields) < len(old) {
			clear(old[len(st.fields):]) // the memory is used again: their strings are free to go
		}
	}
}

// setField changes a field of the request's head, if there is one of that name.
func (st *h2stream) setField(name, value string) bool {
	for i := range st.fields {
		if st.fields[i].Name == name {
			st.fields[i].Value = value
			return true
		}
	}
	return false
}

// editedResponse is the head of the final response with the changes that the
// routes make to it. It is valid as long as the event, or until b is used for
// another.
func (st *h2stream) editedResponse(fields []http2.Field, b *h2batch) []http2.Field {
	if a := st.plan.action; a != nil && !a.Response.Empty() {
		b.edited = appendEdited(b.edited[:0], fields, &a.Response)
		return b.edited
	}
	return fields
}

// appendEdited appends fields with changes, which are never of pseudo-fields or
// of those of the connection. dst may be the beginning of fields.
func appendEdited(dst, fields []http2.Field, edits *route.Edits) []http2.Field {
	for i := range fields {
		if !slices.Contains(edits.Remove, fields[i].Name) {
			dst = append(dst, fields[i])
		}
	}
	for i := range edits.Add {
		dst = append(dst, http2.Field{Name: edits.Add[i].Name, Value: edits.Add[i].Value})
	}
	return dst
}
