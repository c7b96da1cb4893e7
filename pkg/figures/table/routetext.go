package table

import (
	"fmt"
	"strings"

	"github.com/underlane/underlane/pkg/mesh"
)

// matchTexts writes the matches of a rule.
func matchTexts(matches []mesh.RouteMatch) []string {
	out := []string{}
	for i := range matches {
		out = append(out, matchText(&matches[i]))
	}
	if len(out) == 0 {
		return []string{"all requests"}
	}
	return out
}

// matchText writes a match: GET /path, a prefix with a star, a regular expression after ~,
// and then the header fields and query parameters.
func matchText(m *mesh.RouteMatch) string {
	var parts []string
	add := func(text string) {
		if text != "" {
			parts = append(parts, text)
		}
	}
	add(m.Method)
	switch {
	case m.Path.Kind == mesh.PathExact:
		add(m.Path.Value)
	case m.Path.Kind == mesh.PathUnknown:
		add("?" + m.Path.Value)
	case m.Path.Kind == mesh.PathRegex:
		add("~" + m.Path.Value)
	case m.Path.Value != "":
		add(strings.TrimSuffix(m.Path.Value, "/") + "/*")
	}
	if g := m.GRPC; g.Service != "" || g.Method != "" {
		text := orStar(g.Service) + "/" + orStar(g.Method)
		if g.Regex {
			text = "~" + text
		}
		add(text)
	}
	for _, h := range m.Headers {
		add(h.Name + ": " + valueText(h))
	}
	for _, q := range m.Query {
		add("?" + q.Name + "=" + valueText(q))
	}
	if len(parts) == 0 {
		return "all requests"
	}
	return strings.Join(parts, " ")
}

func valueText(v mesh.ValueMatch) string {
	if v.Unknown {
		return "?"
	}
	if v.Regex {
		return "~" + v.Value
	}
	return v.Value
}

func orStar(text string) string {
	if text == "" {
		return "*"
	}
	return text
}

func timeoutText(t mesh.RouteTimeouts) string {
	var parts []string
	if t.Request > 0 {
		parts = append(parts, fmt.Sprintf("%v for the request", t.Request))
	}
	if t.BackendRequest > 0 {
		parts = append(parts, fmt.Sprintf("%v for an attempt", t.BackendRequest))
	}
	return strings.Join(parts, ", ")
}

func retryText(r *mesh.RouteRetry) string {
	if r == nil || r.Attempts == 0 {
		return ""
	}
	var on []string
	for _, c := range r.Codes {
		on = append(on, fmt.Sprint(c))
	}
	for _, c := range r.GRPCCodes {
		on = append(on, fmt.Sprintf("grpc-status %d", c))
	}
	text := fmt.Sprintf("%d after failed connections", r.Attempts)
	if len(on) > 0 {
		text += " and " + strings.Join(on, ", ")
	}
	if r.Backoff > 0 {
		text += fmt.Sprintf(", %v apart", r.Backoff)
	}
	return text
}
