package h1

import (
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/underlane/underlane/pkg/l7proxy/extauth"
	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/l7proxy/reply"
	"github.com/underlane/underlane/pkg/l7proxy/request"
	"github.com/underlane/underlane/pkg/mesh"
)

// ask asks the external authorizer of the routes or of the policies, if one has to allow the
// request, and adds the changes that it wants to edits. The session waits, without a turn. If
// the returned reply has a status, the proxy answers the request with it. arrived is what came
// of the body with the head; what is read of it for the authorizer is in d.early. It returns
// false if the client is gone.
func (d *decider) ask(edits *http1.Edits, arrived []byte) (answer reply.Reply, here bool) {
	c := d.s.RouteCheck(&d.plan, (*asker)(d))
	if c == nil {
		if c = d.s.PolicyCheck((*asker)(d)); c == nil {
			return reply.Reply{}, true
		}
	}
	d.check = c
	if answer, here = d.show(c, edits, arrived); answer.Status != 0 || !here {
		return answer, here
	}
	d.s.Task.Pause()
	c.Run(d.deadline)
	d.s.Task.Resume()
	if answer = c.Reply(); answer.Status == 0 {
		remove, add := c.Edits()
		edits.Remove, edits.Add = merged(edits.Remove, edits.Add, remove, add)
		edits.Alike = true
		if d.s.Direction == mesh.Inbound { // these are judged; those of the client's node are not
			d.removed, d.added = edits.Remove, edits.Add
		}
	}
	d.x.Checked(c, (*asker)(d))
	return answer, true
}

// merged returns the changes of a head that make two changes, one after the other.
func merged(remove []string, add []mesh.HeaderField, thenRemove []string, thenAdd []mesh.HeaderField) ([]string, []mesh.HeaderField) {
	if len(thenRemove)+len(thenAdd) == 0 {
		return remove, add
	}
	kept := slices.DeleteFunc(slices.Clone(add), func(f mesh.HeaderField) bool {
		return slices.ContainsFunc(thenRemove, func(name string) bool { return strings.EqualFold(name, f.Name) })
	})
	return slices.Concat(remove, thenRemove), append(kept, thenAdd...)
}

// Described implements request.Describer.
func (d *asker) Described() extauth.Request {
	return extauth.Request{
		ID:     strconv.FormatUint(uint64(d.s.ID), 10) + "-" + strconv.FormatUint(d.exchanges, 10),
		Method: unsafeString(d.req.Method()), Scheme: "http", Host: unsafeString(d.req.Authority()),
		Path: unsafeString(d.req.Path()), Protocol: "HTTP/1." + strconv.Itoa(min(1, d.req.Minor())), Fields: d.fields(),
	}
}

// fields yields the request's fields as the policies judge them.
func (d *asker) fields() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for n, v := range http1.Forwarded(&d.req) {
			name := unsafeString(n)
			if !slices.ContainsFunc(d.removed, func(r string) bool { return strings.EqualFold(r, name) }) && !yield(name, unsafeString(v)) {
				return
			}
		}
		for _, f := range d.added {
			if !yield(f.Name, f.Value) {
				return
			}
		}
	}
}

var _ request.Describer = (*asker)(nil)
