package route

import (
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
)

// TestLongValuesAreInDoubt: a regular expression is not evaluated on a value that would cost
// too much. The request is then refused if it might have matched, and goes to no other rule.
func TestLongValuesAreInDoubt(t *testing.T) {
	const costly = "(/|a|b|c?d?e?f?g?h?i?j?k?l?m?n?o?p?)*x?"
	long := strings.Repeat("a", 4<<10)
	header := func(v string) []mesh.ValueMatch { return []mesh.ValueMatch{{Name: "h", Value: v, Regex: true}} }
	for name, tc := range map[string]struct {
		match mesh.RouteMatch
		r     Request
		want  Verdict
	}{
		"path":             {mesh.RouteMatch{Path: mesh.PathMatch{Kind: mesh.PathRegex, Value: costly}}, Request{Path: "/" + long}, Doubt},
		"a shorter path":   {mesh.RouteMatch{Path: mesh.PathMatch{Kind: mesh.PathRegex, Value: costly}}, Request{Path: "/" + long[:alwaysMatched-1]}, Matched},
		"a cheap one":      {mesh.RouteMatch{Path: mesh.PathMatch{Kind: mesh.PathRegex, Value: "/a.*"}}, Request{Path: "/" + long}, Matched},
		"header":           {mesh.RouteMatch{Headers: header(costly)}, Request{Path: "/", Fields: fields{"h": long}}, Doubt},
		"a shorter header": {mesh.RouteMatch{Headers: header(costly)}, Request{Path: "/", Fields: fields{"h": "ab"}}, Matched},
		"query": {
			mesh.RouteMatch{Query: []mesh.ValueMatch{{Name: "q", Value: costly, Regex: true}}}, Request{Path: "/?q=" + long}, Doubt,
		},
		"of another method": {mesh.RouteMatch{Method: "POST", Headers: header(costly)}, Request{Path: "/", Fields: fields{"h": long}}, Matched},
	} {
		first := &mesh.Route{Namespace: "n", Name: "a", Rules: []mesh.RouteRule{{Name: "regex", Matches: []mesh.RouteMatch{tc.match}}}}
		rest := &mesh.Route{Namespace: "n", Name: "b", Rules: []mesh.RouteRule{{Name: "rest", Matches: []mesh.RouteMatch{{Path: mesh.PathMatch{Value: "/"}}}}}}
		table, err := Compile([]*mesh.Route{rest, first})
		if err != nil {
			t.Fatal(name, err)
		}
		tc.r.Method = "GET"
		hit, got := table.Match(&tc.r)
		if got != tc.want {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
		if want := map[bool]string{true: "rest", false: "regex"}[tc.match.Method != ""]; got == Matched && hit.Rule.Name != want {
			t.Errorf("%s: got the rule %s, want %s", name, hit.Rule.Name, want)
		}
	}
	grpc := &mesh.Route{GRPC: true, Rules: []mesh.RouteRule{{Matches: []mesh.RouteMatch{{GRPC: mesh.GRPCMethodMatch{Regex: true, Service: costly, Method: "m"}}}}}}
	table, err := Compile([]*mesh.Route{grpc})
	if err != nil {
		t.Fatal(err)
	}
	if _, got := table.Match(&Request{GRPC: true, Method: "POST", Path: "/" + long + "/m"}); got != Doubt {
		t.Errorf("gRPC: got %v, want %v", got, Doubt)
	}
	large := &mesh.Route{Rules: []mesh.RouteRule{{Matches: []mesh.RouteMatch{{Path: mesh.PathMatch{Kind: mesh.PathRegex, Value: "(a{40}b{40}c{40}){20}"}}}}}}
	if err := Check(large); err == nil || !strings.Contains(err.Error(), "instructions") {
		t.Errorf("an expression of many instructions: got %v", err)
	}
}
