package h1

import (
	"slices"
	"strings"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/jwt"
)

// asker describes the current request of a session for the policies, until the next byte
// is read from the client.
type asker decider

// Asked implements destination.Asker.
func (d *asker) Asked() authz.Request {
	out := authz.Request{
		Method:    unsafeString(d.req.Method()),
		Authority: unsafeString(d.req.Authority()),
		Path:      unsafeString(d.req.Path()),
		Fields:    (*fields)(&d.req),
	}
	if d.judged != nil {
		request.Bear(&out, d.judged.Token)
	}
	if len(d.removed)+len(d.added) > 0 {
		out.Fields = &editedFields{fields(d.req), d.removed, d.added}
	}
	d.check.Tell(&out)
	return out
}

// authenticate judges the tokens of the request, and adds the changes of its head to edits.
// If the returned reply has a status, the proxy answers the request with it.
func (d *decider) authenticate(edits *http1.Edits) reply.Reply {
	d.judged, d.removed, d.added, d.check = nil, nil, nil, nil
	tokens, answer := d.s.Tokens(&d.x, (*asker)(d))
	if tokens == nil {
		return answer
	}
	j, answer := d.s.Authenticate(tokens, jwt.Head{Path: unsafeString(d.req.Path()), Fields: (*fields)(&d.req)})
	d.judged = &j
	d.removed, d.added = j.Remove, j.Add
	edits.Remove, edits.Add, edits.Target = j.Remove, j.Add, j.Target
	return answer
}

// editedFields are the fields of a head as the application gets them after tokens were
// judged and an authorizer was asked.
type editedFields struct {
	fields
	remove []string // in lower case
	add    []http1.Field
}

// Next implements authz.Fields. Positions of fields that were added are below zero.
func (f *editedFields) Next(name string, from int) (value string, next int, ok bool) {
	if from >= 0 && !slices.Contains(f.remove, name) {
		if value, next, ok = f.fields.Next(name, from); ok {
			return value, next, true
		}
	}
	for i := max(0, -from); i < len(f.add); i++ {
		if f.add[i].Name == name {
			return f.add[i].Value, -(i + 1), true
		}
	}
	return "", 0, false
}

// Next implements authz.Fields.
func (f *fields) Next(name string, from int) (value string, next int, ok bool) {
	i := 0
	for n, v := range (*http1.Head)(f).Fields() {
		if i++; i > from && len(n) == len(name) && strings.EqualFold(unsafeString(n), name) {
			return unsafeString(v), i, true
		}
	}
	return "", 0, false
}
