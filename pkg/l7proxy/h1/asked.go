package h1

import (
	"slices"
	"strings"

	"github.com/underlane/underlane/pkg/l7proxy/destination"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/policy/jwt"
)

// asking is what the policies look at of a request.
type asking struct {
	req http1.Head
	said
}

// said is what is known of a request beside its head.
type said struct {
	token   *jwt.Token     // nil: it has none that is judged
	check   *request.Check // by an external authorizer; nil: none is asked
	removed []string       // from the head, by tokens and the authorizer; in lower case
	added   []http1.Field  // to it, likewise
}

// Asked implements destination.Asker.
func (a *asking) Asked() authz.Request {
	out := authz.Request{
		Method:    unsafeString(a.req.Method()),
		Authority: unsafeString(a.req.Authority()),
		Path:      unsafeString(a.req.Path()),
		Fields:    (*fields)(&a.req),
	}
	request.Bear(&out, a.token)
	if len(a.removed)+len(a.added) > 0 {
		out.Fields = &editedFields{fields(a.req), a.removed, a.added}
	}
	a.check.Tell(&out)
	return out
}

// asker describes the current request of a session for the policies, until the next byte
// is read from the client.
type asker decider

// Asked implements destination.Asker.
func (d *asker) Asked() authz.Request { return d.asking.Asked() }

// authenticate judges the tokens of the request, and adds the changes of its head to edits.
// If the returned reply has a status, the proxy answers the request with it.
func (d *decider) authenticate(edits *http1.Edits) reply.Reply {
	d.said = said{}
	tokens, answer := d.s.Tokens(&d.x, (*asker)(d))
	if tokens == nil {
		return answer
	}
	return d.judgeTokens(tokens, edits)
}

// judgeTokens is authenticate where tokens are judged.
func (d *decider) judgeTokens(tokens *destination.Tokens, edits *http1.Edits) reply.Reply {
	j, answer := d.s.Authenticate(tokens, jwt.Head{Path: unsafeString(d.req.Path()), Fields: (*fields)(&d.req)})
	d.token = j.Token
	d.removed, d.added = j.Remove, j.Add
	edits.Remove, edits.Add, edits.Target, edits.Alike = j.Remove, j.Add, j.Target, true
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
	if from >= 0 && !f.removes(name) {
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

// Alike implements authz.Fields, as Next does.
func (f *editedFields) Alike(name string, from int) (value string, next int, ok bool) {
	if from >= 0 && !f.removes(name) {
		if value, next, ok = f.fields.Alike(name, from); ok {
			return value, next, true
		}
	}
	for i := max(0, -from); i < len(f.add); i++ {
		if n := f.add[i].Name; n != name && http1.Alike(n, name) {
			return f.add[i].Value, -(i + 1), true
		}
	}
	return "", 0, false
}

// removes reports whether the fields of a name are removed: with them go those of names that are alike.
func (f *editedFields) removes(name string) bool {
	return slices.ContainsFunc(f.remove, func(removed string) bool { return http1.Alike(removed, name) })
}

// Alike implements authz.Fields.
func (f *fields) Alike(name string, from int) (value string, next int, ok bool) {
	i := 0
	for n, v := range http1.Forwarded((*http1.Head)(f)) {
		if i++; i > from && len(n) == len(name) && http1.Alike(n, name) && !strings.EqualFold(unsafeString(n), name) {
			return unsafeString(v), i, true
		}
	}
	return "", 0, false
}

// Next implements authz.Fields. What Connection lists is not there: the application does not get
// it.
func (f *fields) Next(name string, from int) (value string, next int, ok bool) {
	i := 0
	for n, v := range http1.Forwarded((*http1.Head)(f)) {
		if i++; i > from && len(n) == len(name) && strings.EqualFold(unsafeString(n), name) {
			return unsafeString(v), i, true
		}
	}
	return "", 0, false
}
