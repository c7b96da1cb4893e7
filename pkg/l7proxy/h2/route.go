package h2

import (
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/route"
)

// headFields gives the routes access to a head's fields.
type headFields []http2.Field

func (f *headFields) Get(name string) (string, bool) {
	for i := range *f {
		if (*f)[i].Name == name {
			return (*f)[i].Value, true
		}
	}
	return "", false
}

// routeRequest describes a request for the routes.
func routeRequest(line *request.Line, fields *[]http2.Field) route.Request {
	return route.Request{
		GRPC: line.GRPC, Method: line.Method, Scheme: line.Scheme, Authority: line.Authority, Path: line.Path,
		Fields: (*headFields)(fields),
	}
}

// route plans the request by the routes, and starts it.
func (st *stream) route(r *destination.Routing, line *request.Line, b *h2conn.Batch) {
	asked := routeRequest(line, &st.fields)
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
		st.check = st.client.s.RouteCheck(&st.plan, (*asker)(st)) // about the request as it is sent
		if a := st.plan.Action; st.plan.Egress != nil && (a.RewritesTarget() || a.Host != "" || !a.Request.Empty()) {
			st.kept.unedited = slices.Clone(st.fields)
		}
		st.edit(&asked)
	}
	if delay > 0 {
		st.startIn(delay, answer)
		return
	}
	st.startOr(&answer, b)
}

// name finds the Service that the request names, and returns the routes that apply.
func (st *stream) name(authority string) (*destination.Routing, error) {
	var o request.Override
	for i := range st.fields {
		o.Add(st.fields[i].Name, st.fields[i].Value)
	}
	r, err := st.client.s.Name(&o, authority, &st.plan, &st.exchange)
	if err == nil && o.Given() {
		st.editFields(&route.Edits{Remove: request.OverrideFields})
	}
	return r, err
}

// startIn is startOr after a delay. Bytes of the body that arrive meanwhile wait in the pipe.
func (st *stream) startIn(delay time.Duration, answer reply.Reply) {
	st.timer = st.after(delay, st.turn, func(st *stream, b *h2conn.Batch) { st.startOr(&answer, b) })
}

// startOr sends the request, or answers it if answer has a status.
func (st *stream) startOr(answer *reply.Reply, b *h2conn.Batch) {
	if answer.Status != 0 {
		st.answer(answer, b)
		return
	}
	if st.check != nil {
		st.ask(b)
		return
	}
	st.forward(b)
}

// forward sends the request, and copies of it where the routes ask for that.
func (st *stream) forward(b *h2conn.Batch) {
	st.editHead()
	st.copying = st.plan.Action != nil && len(st.plan.Action.Mirrors) > 0 && fieldValue(st.fields, ":method") != "CONNECT"
	st.mirror(b)
	st.start(noEndpoint, nil, b)
}

// edit applies the routes' changes to the request.
func (st *base) edit(asked *route.Request) {
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
		st.editFields(&a.Request)
	}
}

// editFields applies edits to the fields of the request's head.
func (st *base) editFields(edits *route.Edits) {
	old := st.fields
	st.fields = appendEdited(old[:0], old, edits)
	if len(st.fields) < len(old) {
		clear(old[len(st.fields):]) // the memory is used again: let their strings be collected
	}
}

// replaceFields is editFields for fields that only the mesh may set: those whose names
// applications may take for the same are removed, too.
func (st *base) replaceFields(edits *route.Edits) {
	st.fields = slices.DeleteFunc(st.fields, func(f http2.Field) bool {
		return f.Name[0] != ':' && slices.ContainsFunc(edits.Remove, func(name string) bool { return http1.Alike(name, f.Name) })
	})
	st.editFields(&route.Edits{Add: edits.Add})
}

// setField sets the first field of that name in the request's head. It returns false if
// there is none.
func (st *base) setField(name, value string) bool {
	for i := range st.fields {
		if st.fields[i].Name == name {
			st.fields[i].Value = value
			return true
		}
	}
	return false
}

// editedResponse returns the head of the final response with the routes' changes. It is
// valid as long as fields, and until the next use of b.Fields.
func (st *base) editedResponse(fields []http2.Field, b *h2conn.Batch) []http2.Field {
	if a := st.plan.Action; a != nil && !a.Response.Empty() {
		b.Fields = appendEdited(b.Fields[:0], fields, &a.Response)
		fields = b.Fields
	}
	return appendChecked(fields, st.check.Response(), b)
}

// appendEdited appends fields with the changes, which never concern pseudo-fields or
// fields of the connection. dst may be the beginning of fields.
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
