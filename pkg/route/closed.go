package route

import (
	"slices"

	"github.com/underlane/underlane/pkg/mesh"
)

// Closed returns a rule that refuses the requests that r may match, for the reason why. check
// returns what is wrong with a rule by itself: what it does not accept of a match fits every
// request.
func Closed(r mesh.RouteRule, why string, check func(mesh.RouteRule) error) mesh.RouteRule {
	out := mesh.RouteRule{Name: r.Name, Filters: mesh.RouteFilters{Invalid: why}, Matches: slices.Clone(r.Matches)}
	usable := func(part mesh.RouteMatch) bool {
		return check(mesh.RouteRule{Matches: []mesh.RouteMatch{part}, Filters: mesh.RouteFilters{Invalid: "checked"}}) == nil
	}
	for i := range out.Matches {
		out.Matches[i] = widened(&out.Matches[i], usable)
	}
	return out
}

// widened returns a match that can be used: what of m cannot fits every request.
func widened(m *mesh.RouteMatch, usable func(mesh.RouteMatch) bool) mesh.RouteMatch {
	out := mesh.RouteMatch{Path: m.Path, GRPC: m.GRPC}
	if !usable(out) {
		out = mesh.RouteMatch{Path: mesh.PathMatch{Kind: mesh.PathUnknown}}
	}
	if usable(mesh.RouteMatch{Method: m.Method}) {
		out.Method = m.Method
	}
	for _, h := range m.Headers {
		h.Unknown = h.Unknown || !usable(mesh.RouteMatch{Headers: []mesh.ValueMatch{h}})
		out.Headers = append(out.Headers, h)
	}
	for _, q := range m.Query {
		q.Unknown = q.Unknown || !usable(mesh.RouteMatch{Query: []mesh.ValueMatch{q}})
		out.Query = append(out.Query, q)
	}
	return out
}
