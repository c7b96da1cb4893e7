package h2

import (
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/route"
)

// headFields shows a head's fields to the routes.
type headFields []http2.Field

func (f *headFields) Get(name string) (string, bool) {
	for i := range *f {
		if (*f)[i].Name == name {
			return (*f)[i].Value, true
		}
	}
	return "", false
}

// route does with the request what the routes say of it.
func (st *stream) route(r *destination.Routing, line *request.Line, b *h2conn.Batch) {
	asked := route.Request{
		GRPC: line.GRPC, Method: line.Method, Scheme: line.Scheme, Authority: line.Authority, Path: line.Path,
		Fields: (*headFields)(&st.fields),
	}
	answer, delay := st.client.s.Route(r, &asked, &st.plan, &st.exchange)
	if st.plan.Action == nil {
		st.startOr(&answer, b)
		return
	}
	if limit := st.plan.Timeouts().Request; limit > 0 {
		st.due(limit)
		st.limit = st.after(limit, wholeStream, (*stream).requestLate)
	}
	if answer.Status == 0 {
		st.edit(&asked)
	}
	if delay > 0 {
		st.startIn(delay, answer)
		return
	}
	st.startOr(&answer, b)
}

// startIn is startOr after a delay. What comes of the body meanwhile waits in
// its pipe.
func (st *stream) startIn(delay time.Duration, answer reply.Reply) {
	st.timer = st.after(delay, st.turn, func(st *stream, b *h2conn.Batch) { st.startOr(&answer, b) })
}

// startOr sends the request, unless there is an answer to it.
func (st *stream) startOr(answer *reply.Reply, b *h2conn.Batch) {
	if answer.Status != 0 {
		st.answer(answer, b)
		return
	}
	st.copying = st.plan.Action != nil && len(st.plan.Action.Mirrors) > 0 && fieldValue(st.fields, ":method") != "CONNECT"
	st.mirror(b)
	st.start(noEndpoint, nil, b)
}

// edit makes the routes' changes to the request.
func (st *stream) edit(asked *route.Request) {
	a := st.plan.Action
	if a.RewritesTarget() {
		var buf [256]byte
		st.setField(":path", string(a.AppendTarget(buf[:0], asked, st.plan.Hit)))
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
func (st *stream) setField(name, value string) bool {
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
func (st *stream) editedResponse(fields []http2.Field, b *h2conn.Batch) []http2.Field {
	if a := st.plan.Action; a != nil && !a.Response.Empty() {
		b.Fields = appendEdited(b.Fields[:0], fields, &a.Response)
		return b.Fields
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
