package h1

import (
	"strings"

	"github.com/underlane/underlane/pkg/l7proxy/http1"
	"github.com/underlane/underlane/pkg/policy/authz"
)

// asker describes the current request of a session for the policies, until the next byte
// is read from the client.
type asker session

// Asked implements destination.Asker.
func (d *asker) Asked() authz.Request {
	return authz.Request{
		Method:    unsafeString(d.req.Method()),
		Authority: unsafeString(d.req.Authority()),
		Path:      unsafeString(d.req.Path()),
		Fields:    (*fields)(&d.req),
	}
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
