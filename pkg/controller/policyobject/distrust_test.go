package policyobject

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestDistrust: the rule of a field refuses. What the field may have said of a match comes first
// only where that is asked for.
func TestDistrust(t *testing.T) {
	path := func(kind mesh.PathMatchKind, value string) mesh.RouteMatch {
		return mesh.RouteMatch{Path: mesh.PathMatch{Kind: kind, Value: value}}
	}
	exact, any := path(mesh.PathExact, "/a"), path(mesh.PathUnknown, "")
	for _, tc := range []struct {
		field       string
		matches     []mesh.RouteMatch
		later, last []mesh.RouteMatch // without and with before
	}{
		{"spec.rules[0].cookies", []mesh.RouteMatch{exact}, []mesh.RouteMatch{exact}, []mesh.RouteMatch{exact}},
		{"spec.rules[0].match", nil, nil, []mesh.RouteMatch{any}},
		{"spec.rules[0].filters[0].cors", nil, nil, nil},
		{"spec.rules[0].backendRefs[0].filters[1].x", nil, nil, nil},
		{"spec.rules[0].matches[0].cookie", []mesh.RouteMatch{exact}, []mesh.RouteMatch{exact}, []mesh.RouteMatch{path(mesh.PathUnknown, "/a")}},
		{"spec.rules[0].matches[0].path.not", []mesh.RouteMatch{exact}, []mesh.RouteMatch{any}, []mesh.RouteMatch{any}},
		{"spec.rules[0].matches", []mesh.RouteMatch{exact}, []mesh.RouteMatch{any}, []mesh.RouteMatch{any}},
		{"spec.rules[0].matches[7].path.x", []mesh.RouteMatch{exact}, []mesh.RouteMatch{exact}, []mesh.RouteMatch{exact}},
	} {
		for before, want := range map[bool][]mesh.RouteMatch{false: tc.later, true: tc.last} {
			rules := []mesh.RouteRule{{Matches: append([]mesh.RouteMatch(nil), tc.matches...)}, {}}
			rules = Distrust(rules, tc.field, "why", before)
			if diff := cmp.Diff(want, rules[0].Matches); diff != "" || rules[0].Filters.Invalid != "why" || rules[1].Filters.Invalid != "" {
				t.Errorf("%s, before %v: got %+v, want only the first to refuse; matches -want +got:\n%s", tc.field, before, rules, diff)
			}
		}
	}
}
