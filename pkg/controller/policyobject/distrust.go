package policyobject

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/underlane/underlane/pkg/mesh"
)

// Distrust makes the rules of a route refuse what a field may be about that is not known: those
// of its rule, or all if it is in none. It is named as Unknown names fields. why is told of the
// refusals.
//
// A rule without a part that is not known would be about more requests than its author means. With
// before set, it is not to lose any of them to other rules: a match with such a field comes before
// those (PathUnknown). That is for routes that say who is let in.
func Distrust(rules []mesh.RouteRule, field, why string, before bool) []mesh.RouteRule {
	if i, in := ruleOf(field); in && i >= 0 && i < len(rules) {
		rules[i].Filters.Invalid = why
		distrustMatch(&rules[i], field, before)
		return rules
	}
	if len(rules) == 0 {
		rules = []mesh.RouteRule{{}}
	}
	for i := range rules {
		rules[i].Filters.Invalid = why
	}
	return rules
}

// inRule finds a field of a rule itself.
var inRule = regexp.MustCompile(`^spec\.rules\[[0-9]+\]\.?[^.\[]*$`)

// inMatches finds a list of matches, one of them, and what comes behind that.
var inMatches = regexp.MustCompile(`^spec\.rules\[[0-9]+\]\.matches(?:\[([0-9]+)\](\..+)?)?$`)

// inValue finds a header field or a parameter in which a field is, and its index.
var inValue = regexp.MustCompile(`^\.(headers|queryParams)\[([0-9]+)\]\.`)

func distrustMatch(r *mesh.RouteRule, field string, before bool) {
	in := inMatches.FindStringSubmatch(field)
	if in == nil {
		if before && len(r.Matches) == 0 && inRule.MatchString(field) { // the field may be them
			r.Matches = []mesh.RouteMatch{anything()}
		}
		return
	}
	i, err := strconv.Atoi(in[1])
	if err != nil { // there are two lists, of which one was read
		r.Matches = []mesh.RouteMatch{anything()}
		return
	}
	if i >= len(r.Matches) {
		return
	}
	m := &r.Matches[i]
	if in := inValue.FindStringSubmatch(in[2]); in != nil {
		values := m.Headers
		if in[1] == "queryParams" {
			values = m.Query
		}
		if j, _ := strconv.Atoi(in[2]); j < len(values) {
			values[j].Unknown = true
			return
		}
	}
	switch part := strings.TrimPrefix(in[2], "."); {
	case part == "path" || part == "method" || part == "headers" || part == "queryParams": // given twice
		*m = anything()
	case strings.HasPrefix(part, "path."), strings.HasPrefix(part, "method."): // the latter of GRPCRoutes only
		m.Path, m.GRPC = anything().Path, mesh.GRPCMethodMatch{}
	case before:
		m.Path, m.GRPC = first(m), mesh.GRPCMethodMatch{}
	}
}

func anything() mesh.RouteMatch {
	return mesh.RouteMatch{Path: mesh.PathMatch{Kind: mesh.PathUnknown}}
}

// first returns a match that comes before all others, of the paths that m is about at least.
func first(m *mesh.RouteMatch) mesh.PathMatch {
	out := anything().Path
	switch g := &m.GRPC; {
	case m.Path.Kind == mesh.PathRegex, g.Regex:
	case g.Service != "" && g.Method != "":
		out.Value = "/" + g.Service + "/" + g.Method
	case g.Service != "":
		out.Value = "/" + g.Service
	default:
		out.Value = m.Path.Value
	}
	return out
}
