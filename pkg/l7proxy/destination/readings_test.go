package destination

import (
	"strings"
	"testing"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/route"
)

// sent are the lines of a head: NAME: VALUE. Names that begin with - are listed by Connection.
type sent []string

func (s sent) Get(name string) (string, bool) {
	for _, line := range s {
		if key, value, _ := strings.Cut(strings.TrimPrefix(line, "-"), ": "); key == name {
			return value, true
		}
	}
	return "", false
}

func (s sent) Next(name string, from int) (string, int, bool) {
	for i := from; i < len(s); i++ {
		if key, value, _ := strings.Cut(s[i], ": "); key == name {
			return value, i + 1, true
		}
	}
	return "", 0, false
}

// Alike implements authz.Fields.
func (s sent) Alike(name string, from int) (string, int, bool) {
	for i := from; i < len(s); i++ {
		if key, value, _ := strings.Cut(s[i], ": "); key != name && strings.ReplaceAll(key, "_", "-") == strings.ReplaceAll(name, "_", "-") {
			return value, i + 1, true
		}
	}
	return "", 0, false
}

// TestReadings: a request that servers read in several ways belongs to a rule of an EgressNetwork
// that denies only if each of them does.
func TestReadings(t *testing.T) {
	rule := func(m mesh.RouteMatch) mesh.RouteRule {
		return mesh.RouteRule{Matches: []mesh.RouteMatch{m}, Backends: []mesh.RouteBackend{{Original: true, Weight: 1}}}
	}
	removes := rule(mesh.RouteMatch{Path: mesh.PathMatch{Value: "/public"}, Method: "DELETE"})
	removes.Filters.Invalid = "refuses"
	table, err := route.Compile([]*mesh.Route{{Kind: "HTTPRoute", Egress: true, Hostnames: []string{"ok.example"}, Rules: []mesh.RouteRule{
		rule(mesh.RouteMatch{Path: mesh.PathMatch{Value: "/public"}}), removes,
		rule(mesh.RouteMatch{Path: mesh.PathMatch{Value: "/field"}, Headers: []mesh.ValueMatch{{Name: "X-Team", Value: "a"}}}),
		rule(mesh.RouteMatch{Path: mesh.PathMatch{Value: "/query"}, Query: []mesh.ValueMatch{{Name: "op", Value: "read"}}}),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, deny := range []bool{true, false} {
		r := &Routing{Table: table, Egress: &Egress{Network: &mesh.EgressNetwork{Deny: deny}, requests: true}}
		for name, tc := range map[string]struct {
			line string // METHOD PATH, and a host if it is another one
			head sent
			want bool // with a network that denies; one that allows is not strict
		}{
			"a path":                           {"GET /public/a", nil, true},
			"dots":                             {"GET /public/../admin", nil, false},
			"a method in another case":         {"delete /public", nil, false},
			"one that no rule names":           {"get /public", nil, true},
			"a user before the host":           {"GET /public ok.example:80@admin.example", nil, false},
			"a port":                           {"GET /public OK.example:8080", nil, true},
			"a field":                          {"GET /field", sent{"x-team: a"}, true},
			"one that is alike, too":           {"GET /field", sent{"x-team: a", "x_team: b"}, false},
			"a field twice":                    {"GET /field", sent{"x-team: a", "x-team: a"}, true},
			"two values of a field":            {"GET /field", sent{"x-team: a", "x-team: b"}, false},
			"a field that does not go on":      {"GET /field", sent{"-x-team: a"}, false},
			"another field with two values":    {"GET /field", sent{"x-team: a", "x-other: a", "x-other: b"}, true},
			"a field of another rule":          {"GET /public", sent{"x-team: a", "x-team: b"}, false},
			"a parameter":                      {"GET /query?op=read", nil, true},
			"two values of a parameter":        {"GET /query?op=read&op=write", nil, false},
			"two values, one encoded":          {"GET /query?op=read&%6fp=write", nil, false},
			"another parameter with two":       {"GET /query?op=read&x=1&x=2", nil, true},
			"a parameter behind encoded slash": {"GET /query%2f..%2fpublic?op=read", nil, false},
		} {
			words := strings.Fields(tc.line)
			asked := &route.Request{Method: words[0], Path: words[1], Authority: "ok.example"}
			if len(words) > 2 {
				asked.Authority = words[2]
			}
			if tc.head != nil {
				asked.Fields = tc.head
			}
			_, verdict := r.Match(asked)
			if got := verdict == route.Matched; got != tc.want && (deny || tc.want) {
				t.Errorf("%s, deny %v: matches %v, want %v", name, deny, got, tc.want)
			}
		}
	}
}
