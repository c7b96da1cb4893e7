package authz

import (
	"slices"
	"strings"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/route"
)

// Route is one to which a request to the ports of a Group may belong. Operation.Routes names
// it. The match has no Service as parent, and no backends.
type Route struct {
	Name  string
	Match *mesh.Route
}

// router finds the route of a request. The nil router has no routes: policies do not look at
// them.
type router struct {
	table *route.Table
	names map[*mesh.Route]string
	grpc  bool // the routes are those of gRPC calls
	// fields and params are the names of what the routes compare. A request that has one of
	// them with several values, or under names that are alike, belongs to no route: servers read
	// one or the other.
	fields, params []string
}

// newRouter compiles the routes of a group, nil if it has none. If one of them is not
// understood, no request belongs to any: it might belong to that one, and what is said for
// another must not hold for it.
func newRouter(g *Group) (*router, []Problem) {
	if !g.Routed {
		return nil, nil
	}
	r := &router{names: make(map[*mesh.Route]string, len(g.Routes))}
	var all []*mesh.Route
	for _, to := range g.Routes {
		err := error(errNoMatch)
		if to.Match != nil {
			err = route.Check(to.Match)
		}
		if err == nil && to.Match.GRPC != g.Routes[0].Match.GRPC {
			err = errMixed
		}
		if err != nil {
			return new(router), []Problem{{Field: "routes of " + g.Name, Text: to.Name + ": " + err.Error() + ": no request belongs to a route"}}
		}
		r.names[to.Match], r.grpc = to.Name, to.Match.GRPC
		all = append(all, to.Match)
	}
	r.table, _ = route.Compile(all) // each was checked
	r.fields, r.params = r.table.Compared()
	return r, nil
}

type constError string

func (e constError) Error() string { return string(e) }

const (
	errNoMatch constError = "it says nothing of requests"
	errMixed   constError = "routes of HTTP and of gRPC are together"
)

// ambiguous reports whether what the routes compare has several values.
func (r *router) ambiguous(q *Request) bool {
	for _, name := range r.fields {
		if q.Fields == nil {
			break
		}
		if _, _, alike := q.Fields.Alike(name, 0); alike {
			return true
		}
		first, next, ok := q.Fields.Next(name, 0)
		for value := ""; ok; {
			if value, next, ok = q.Fields.Next(name, next); ok && value != first {
				return true
			}
		}
	}
	if len(r.params) == 0 {
		return false
	}
	_, query, _ := strings.Cut(q.Path, "?")
	return slices.ContainsFunc(r.params, func(name string) bool { return route.Ambiguous(query, name) })
}

// find returns the name of the route that a request belongs to, and whether it belongs to
// one. All readings of its path and of its method have to belong to the same one.
func (r *router) find(q *Request) (name string, ok bool) {
	if r.ambiguous(q) {
		return "", false
	}
	asked := route.Request{GRPC: r.grpc, Method: q.Method, Authority: q.Authority, Fields: (*firstFields)(q)}
	upper := strings.ToUpper(q.Method) // some applications read it so
	paths := readPath(q.Path)
	for i := range 2 * paths.n {
		asked.Path = paths.of[i/2]
		if i < 2 {
			asked.Path = q.Path // with the query
		}
		if asked.Method = q.Method; i%2 > 0 {
			if upper == q.Method {
				continue
			}
			asked.Method = upper
		}
		hit, verdict := r.table.Match(&asked)
		if verdict != route.Matched || hit.Rule.Route.Rules[hit.Rule.Index].Filters.Invalid != "" {
			return "", false
		}
		found := r.names[hit.Rule.Route]
		if i > 0 && found != name {
			return "", false
		}
		name = found
	}
	return name, true
}

// firstFields gives routes access to the fields of a Request.
type firstFields Request

// Get implements route.Fields.
func (f *firstFields) Get(name string) (string, bool) {
	if f.Fields == nil {
		return "", false
	}
	value, _, ok := f.Fields.Next(name, 0)
	return value, ok
}
