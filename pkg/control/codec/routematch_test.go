package codec

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestUnknownMatches: what is not known of a match comes through. An agent that does not know
// PathUnknown takes the path for a prefix.
func TestUnknownMatches(t *testing.T) {
	in := mesh.Route{Rules: []mesh.RouteRule{{
		Filters: mesh.RouteFilters{Invalid: "why"},
		Matches: []mesh.RouteMatch{{
			Path: mesh.PathMatch{Kind: mesh.PathUnknown, Value: "/a"}, Headers: []mesh.ValueMatch{{Name: "a", Unknown: true}}, Query: []mesh.ValueMatch{{Name: "q", Value: "1"}},
		}},
	}}}
	encoded := EncodeRoute(&in).GetRoute()
	if m := encoded.GetRules()[0].GetMatches()[0]; m.GetPathKind() != 0 || m.GetPath() != "/a" {
		t.Errorf("for agents of other versions: %v", m)
	}
	out, err := decodeRoute(encoded)
	if diff := cmp.Diff(&in, out); diff != "" || err != nil {
		t.Error(err, diff)
	}
}
