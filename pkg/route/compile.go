package route

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/retry"
)

// candidate is one compiled mesh.RouteMatch.
type candidate struct {
	rule    *Rule
	kind    pathKind
	path    string   // the value to compare with; "" with byPrefix and byUnknown: any path
	pattern *pattern // used instead of path if not nil
	length  int      // of the pattern's source, for precedence
	method  string   // "": any
	headers []valueMatch
	query   []valueMatch
	order   int // position by age and name of the route, then by order within the route
}

// methods returns the number of methods that c requires: 0 or 1.
func (c *candidate) methods() int { return min(len(c.method), 1) }

type pathKind uint8

const (
	byPrefix pathKind = iota
	byExact
	byMethod  // the last element of a gRPC path
	byUnknown // as byPrefix, before all others
)

// valueMatch compares one header field or query parameter.
type valueMatch struct {
	name    string // of headers: lower case
	value   string
	pattern *pattern // used instead of value if not nil
	unknown bool     // every request fits
}

type compiledRule struct {
	*Rule
	candidates []*candidate
}

func compileRoute(r *mesh.Route) ([]compiledRule, error) {
	for _, name := range r.Hostnames {
		if err := checkHostname(strings.TrimPrefix(name, "*.")); err != nil {
			return nil, err
		}
	}
	rules := make([]compiledRule, len(r.Rules))
	names := make(map[string]bool)
	for i := range r.Rules {
		spec := &r.Rules[i]
		if spec.Name != "" && names[spec.Name] {
			return nil, fmt.Errorf("rule %d: the name %q is another rule's", i, spec.Name)
		}
		names[spec.Name] = true
		rule, err := compileRule(r, i)
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i, err)
		}
		rules[i].Rule = rule
		matches := spec.Matches
		if len(matches) == 0 {
			matches = make([]mesh.RouteMatch, 1)
		}
		for j := range matches {
			c, err := compileMatch(&matches[j], r.GRPC)
			if err != nil {
				return nil, fmt.Errorf("rule %d: match %d: %w", i, j, err)
			}
			c.rule = rule
			rules[i].candidates = append(rules[i].candidates, c)
		}
	}
	return rules, nil
}

func compileRule(r *mesh.Route, index int) (*Rule, error) {
	spec := &r.Rules[index]
	policy, err := retry.New(spec.Retry)
	if err != nil {
		return nil, err
	}
	t := spec.Timeouts
	switch {
	case t.Request < 0 || t.BackendRequest < 0:
		return nil, fmt.Errorf("timeouts: below zero")
	case t.Request > 0 && t.BackendRequest > t.Request:
		return nil, fmt.Errorf("timeouts: %v for the backend's part and %v for the whole request", t.BackendRequest, t.Request)
	}
	rule := &Rule{Route: r, Index: index, Name: spec.Name, Label: cmp.Or(spec.Name, strconv.Itoa(index)), Timeouts: t, Retry: policy}
	if err := rule.compileActions(spec, r.GRPC); err != nil {
		return nil, err
	}
	return rule, nil
}

func compileMatch(m *mesh.RouteMatch, grpc bool) (c *candidate, err error) {
	c = new(candidate)
	if grpc {
		if known(m.Path) != (mesh.PathMatch{}) || m.Method != "" || len(m.Query) > 0 {
			return nil, fmt.Errorf("a gRPC route matches by service, method and headers only")
		}
		if m.Path.Kind == mesh.PathUnknown {
			err = c.compilePath(&m.Path)
		} else {
			err = c.compileGRPC(&m.GRPC)
		}
	} else {
		if m.GRPC != (mesh.GRPCMethodMatch{}) {
			return nil, fmt.Errorf("gRPC method: the route is an HTTP route")
		}
		if m.Method != "" && !isToken(m.Method) {
			return nil, fmt.Errorf("method %q", m.Method)
		}
		c.method = m.Method
		err = c.compilePath(&m.Path)
	}
	if err != nil {
		return nil, err
	}
	for _, h := range m.Headers {
		if !isToken(h.Name) && !h.Unknown {
			return nil, fmt.Errorf("header %q: not a name", h.Name)
		}
		if c.headers, err = appendValue(c.headers, h, strings.ToLower(h.Name)); err != nil {
			return nil, fmt.Errorf("header %q: %w", h.Name, err)
		}
	}
	for _, q := range m.Query {
		if q.Name == "" && !q.Unknown {
			return nil, fmt.Errorf("query parameter without a name")
		}
		if c.query, err = appendValue(c.query, q, q.Name); err != nil {
			return nil, fmt.Errorf("query parameter %q: %w", q.Name, err)
		}
	}
	return c, nil
}

// known returns the zero PathMatch for one that is not known.
func known(m mesh.PathMatch) mesh.PathMatch {
	if m.Kind == mesh.PathUnknown {
		return mesh.PathMatch{}
	}
	return m
}

// appendValue appends a match, unless the list has one with that name already.
func appendValue(to []valueMatch, m mesh.ValueMatch, name string) ([]valueMatch, error) {
	for i := range to {
		if to[i].name == name {
			return to, nil
		}
	}
	v := valueMatch{name: name, value: m.Value, unknown: m.Unknown}
	if m.Regex && !m.Unknown {
		var err error
		if v.pattern, err = compilePattern(m.Value); err != nil {
			return nil, err
		}
	}
	return append(to, v), nil
}

func (c *candidate) compilePath(m *mesh.PathMatch) (err error) {
	switch m.Kind {
	case mesh.PathRegex:
		c.length = len(m.Value)
		c.pattern, err = compilePattern(m.Value)
		return err
	case mesh.PathExact:
		c.kind, c.path = byExact, m.Value
		return checkMatchPath(m.Value)
	case mesh.PathPrefix, mesh.PathUnknown:
		if m.Kind == mesh.PathUnknown {
			c.kind = byUnknown
		}
		if m.Value == "" {
			return nil
		}
		c.path = strings.TrimSuffix(m.Value, "/")
		return checkMatchPath(m.Value)
	}
	return fmt.Errorf("path: unknown kind of match %d", m.Kind)
}

// compileGRPC turns a service and a method into a match of the request path.
func (c *candidate) compileGRPC(m *mesh.GRPCMethodMatch) (err error) {
	switch {
	case m.Service == "" && m.Method == "":
	case m.Regex:
		orAny := func(pattern string) string {
			if pattern == "" {
				return "[^/]+"
			}
			return "(?:" + pattern + ")"
		}
		for _, part := range []string{m.Service, m.Method} {
			if _, err := compilePattern(part); err != nil {
				return err
			}
		}
		// For precedence the length of the service counts before that of the method.
		c.length = len(m.Service)*(maxPattern+1) + len(m.Method)
		c.pattern, err = newPattern("^/" + orAny(m.Service) + "/" + orAny(m.Method) + "$")
		return err
	case !isGRPCName(m.Service) || !isGRPCName(m.Method):
		return fmt.Errorf("gRPC service %q, method %q: not names", m.Service, m.Method)
	case m.Method == "":
		c.path = "/" + m.Service
	case m.Service == "":
		c.kind, c.path = byMethod, m.Method
	default:
		c.kind, c.path = byExact, "/"+m.Service+"/"+m.Method
	}
	return nil
}
