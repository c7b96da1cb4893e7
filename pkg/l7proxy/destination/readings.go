package destination

import (
	"strings"

	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/route"
)

// Match finds the rule for a request, as the table does. Of a network that denies what no route is
// about, all ways in which a server may read the request have to belong to the same rule: outside
// /public/../admin may be /admin.
func (r *Routing) Match(asked *route.Request) (route.Hit, route.Verdict) {
	hit, verdict := r.Table.Match(asked)
	if verdict != route.Matched || r.Egress == nil || !r.Egress.Network.Deny || !r.Egress.requests {
		return hit, verdict
	}
	seen := &authz.Request{Authority: asked.Authority, Path: asked.Path}
	if _, clear := seen.Host(); !clear && asked.Authority != "" || r.ambiguous(asked) {
		return route.Hit{}, route.NoRule
	}
	same := func(other *route.Request) bool {
		also, verdict := r.Table.Match(other)
		return verdict == route.Matched && also.Rule == hit.Rule
	}
	upper := strings.ToUpper(asked.Method) // some servers read it so
	paths, n := seen.Paths()
	for i, path := range paths[:n] {
		other := *asked
		if i > 0 {
			other.Path = path
			if _, query, has := strings.Cut(asked.Path, "?"); has {
				other.Path += "?" + query
			}
			if !same(&other) {
				return route.Hit{}, route.NoRule
			}
		}
		if other.Method = upper; upper != asked.Method && !same(&other) {
			return route.Hit{}, route.NoRule
		}
	}
	return hit, verdict
}

// ambiguous reports whether a header field or a parameter that the rules compare has several
// values, of which servers read one or the other, or one that the server does not get, or whether
// there is a field that only some servers take for it.
func (r *Routing) ambiguous(asked *route.Request) bool {
	fields, params := r.Table.Compared()
	for _, name := range fields {
		if name == "host" || asked.Fields == nil {
			continue
		}
		all, is := asked.Fields.(authz.Fields)
		if is {
			if _, _, alike := all.Alike(name, 0); alike {
				return true
			}
		}
		first, ok := asked.Fields.Get(name)
		if !ok {
			continue
		}
		if !is {
			return true
		}
		n := 0
		for value, next, more := all.Next(name, 0); more; value, next, more = all.Next(name, next) {
			if n++; value != first {
				return true
			}
		}
		if n == 0 { // Connection lists it
			return true
		}
	}
	if len(params) == 0 {
		return false
	}
	_, query, _ := strings.Cut(asked.Path, "?")
	for _, name := range params {
		if route.Ambiguous(query, name) {
			return true
		}
	}
	return false
}
