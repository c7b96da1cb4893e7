package linkerdpolicy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/underlane/underlane/pkg/controller/policyobject"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/policy/authz"
	"github.com/underlane/underlane/pkg/route"
)

// Route is an HTTPRoute or GRPCRoute of the Gateway API, or an HTTPRoute of
// policy.linkerd.io.
type Route struct {
	policyobject.Meta
	Spec    RouteSpec
	Unknown []string // fields, as policyobject.Unknown names them
	Broken  bool     // what was not read looks as if it were not there
}

// RouteSpec is what is read of a route: where it belongs, and which requests belong to it.
// The other fields are known, and say nothing of that.
type RouteSpec struct {
	ParentRefs         []ParentRef     `json:"parentRefs"`
	Hostnames          []string        `json:"hostnames"`
	Rules              []RouteRule     `json:"rules"`
	UseDefaultGateways json.RawMessage `json:"useDefaultGateways"`
}

// ParentRef refers to a Server, or to something else.
type ParentRef struct {
	Group       *string `json:"group"`
	Kind        *string `json:"kind"`
	Namespace   *string `json:"namespace"`
	Name        string  `json:"name"`
	SectionName *string `json:"sectionName"`
	Port        *int64  `json:"port"`
}

// RouteRule is a rule of a route.
type RouteRule struct {
	Name               string          `json:"name"`
	Matches            []RouteMatch    `json:"matches"`
	Filters            json.RawMessage `json:"filters"`
	BackendRefs        json.RawMessage `json:"backendRefs"`
	Timeouts           json.RawMessage `json:"timeouts"`
	Retry              json.RawMessage `json:"retry"`
	SessionPersistence json.RawMessage `json:"sessionPersistence"`
}

// RouteMatch says which requests a rule is about.
type RouteMatch struct {
	Path *struct {
		Type  string  `json:"type"`
		Value *string `json:"value"`
	} `json:"path"`
	Headers     []ValueMatch    `json:"headers"`
	QueryParams []ValueMatch    `json:"queryParams"`
	Method      json.RawMessage `json:"method"` // text, or of a GRPCRoute an object
}

// ValueMatch compares a header field or a parameter.
type ValueMatch struct {
	Type  string `json:"type"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Bound is a route that belongs to a Server.
type Bound struct {
	Name   string      // under which policies know it: authz.Request.Route
	Route  *mesh.Route // for pkg/route. It has no Service as parent, and no backends
	closed []closedRule
}

// closedRule is a rule that refuses its requests.
type closedRule struct {
	field string // what is wrong, in the object
	why   string
}

// Routes returns the routes that are attached to a Server. With attached, requests that
// belong to none of them are answered 404; without, there are no routes. A request that a match, a
// rule or a route which is not understood may be about belongs to none: what is said for another
// route must not hold for it. If it is not known which requests that may be, no request belongs to any.
func (o *Objects) Routes(s *Server) (routes []Bound, attached bool, problems []authz.Problem) {
	grpc := false
	switch s.Spec.ProxyProtocol {
	case "", "unknown", "HTTP/1", "HTTP/2":
	case "gRPC":
		grpc = true
	default:
		return nil, false, nil // opaque, TLS, and what is not known: no requests are read
	}
	broken := false
	for _, i := range o.places().routes[s.Namespace] {
		r := &o.AllRoutes[i]
		if grpc != (r.Kind == "GRPCRoute") || !r.refersTo(s) {
			continue
		}
		attached = true
		bound, err := r.bind(grpc)
		if err != nil {
			broken = true
			problems = append(problems, authz.Problem{Policy: r.String(), Field: "spec", Text: err.Error() + ": no request belongs to a route of " + serverName(s)})
			continue
		}
		for _, c := range bound.closed {
			problems = append(problems, authz.Problem{Policy: r.String(), Field: c.field, Text: c.why})
		}
		routes = append(routes, bound)
	}
	if broken {
		routes = nil
	}
	return routes, attached, problems
}

// Attach returns why routes of a kind do not belong to a Server of that name, "" if they do.
func (o *Objects) Attach(kind, namespace, server string) string {
	if i, ok := o.places().servers[name{namespace, server}]; ok {
		switch s := &o.Servers[i]; s.Spec.ProxyProtocol {
		case "", "unknown", "HTTP/1", "HTTP/2":
			if kind == "HTTPRoute" {
				return ""
			}
		case "gRPC":
			if kind == "GRPCRoute" {
				return ""
			}
		}
		return fmt.Sprintf("a %s has no effect on a Server with proxyProtocol %q", kind, o.Servers[i].Spec.ProxyProtocol)
	}
	return "Server " + server + " does not exist"
}

// refersTo reports whether a Server is among the route's parents.
func (r *Route) refersTo(s *Server) bool {
	return slices.ContainsFunc(r.Spec.ParentRefs, func(p ParentRef) bool {
		return p.IsServer() && p.Name == s.Name && (p.Namespace == nil || *p.Namespace == r.Namespace)
	})
}

// IsServer reports whether p refers to a Server.
func (p *ParentRef) IsServer() bool {
	return p.Group != nil && p.Kind != nil && strings.EqualFold(*p.Group, Group) && strings.EqualFold(*p.Kind, "Server")
}

// bind returns the route, whose rules refuse their requests where something is not understood.
// The error says why it cannot be known which requests the route is about.
func (r *Route) bind(grpc bool) (Bound, error) {
	for _, field := range r.Unknown {
		if r.Broken || r.mayBeAny(field) {
			return Bound{}, fmt.Errorf("%s is not known", field)
		}
	}
	out := Bound{
		Name:  RouteName(r.Group, r.Kind, r.Name),
		Route: &mesh.Route{GRPC: grpc, Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, Created: r.Created, Hostnames: r.Spec.Hostnames},
	}
	for i := range r.Spec.Rules {
		rule, closed := r.Spec.Rules[i].translate(grpc, fmt.Sprintf("spec.rules[%d]", i))
		out.Route.Rules = append(out.Route.Rules, rule)
		out.closed = append(out.closed, closed...)
	}
	if len(out.Route.Rules) == 0 { // the API gives it one that matches everything
		out.Route.Rules = []mesh.RouteRule{{}}
	}
	for _, field := range r.Unknown {
		out.distrust(field, field+" is not known")
	}
	for i, p := range r.Spec.ParentRefs {
		switch at := fmt.Sprintf("spec.parentRefs[%d]", i); {
		case !p.IsServer():
		case p.Namespace != nil && *p.Namespace != r.Namespace:
			out.distrust(at, fmt.Sprintf("the Server %q is of another namespace", p.Name))
		case p.Port != nil || p.SectionName != nil:
			out.distrust(at, fmt.Sprintf("the Server %q is referred to with a port or a section", p.Name))
		}
	}
	return out, route.Check(out.Route)
}

// mayBeAny reports whether a field that is not known may say that the route is about any request: it
// may be the hosts or the rules, or stand for several fields.
func (r *Route) mayBeAny(field string) bool {
	name, ok := strings.CutPrefix(field, "spec.")
	switch {
	case !ok, name == "rules", strings.HasPrefix(name, "hostnames"):
		return true
	case strings.ContainsAny(name, ".["):
		return false
	}
	return len(r.Spec.Hostnames) == 0 || len(r.Spec.Rules) == 0
}

// distrust makes the rules refuse what field may be about.
func (b *Bound) distrust(field, why string) {
	b.Route.Rules = policyobject.Distrust(b.Route.Rules, field, why, true)
	b.closed = append(b.closed, closedRule{field, why + ": requests that it may be about are refused"})
}

// translate returns a rule, which refuses the requests that it may be about if something of it
// is not understood, or if it has filters.
func (r *RouteRule) translate(grpc bool, at string) (out mesh.RouteRule, closed []closedRule) {
	check := func(rule mesh.RouteRule) error {
		return route.Check(&mesh.Route{GRPC: grpc, Rules: []mesh.RouteRule{rule}})
	}
	out.Name = r.Name
	for i := range r.Matches {
		m, err := r.Matches[i].translate(grpc)
		if err == nil {
			err = check(mesh.RouteRule{Matches: []mesh.RouteMatch{m}})
		}
		if err != nil {
			why := strings.TrimPrefix(err.Error(), "rule 0: match 0: ") + ": requests that it may be about are refused"
			closed = append(closed, closedRule{fmt.Sprintf("%s.matches[%d]", at, i), why})
		}
		out.Matches = append(out.Matches, m)
	}
	if len(closed) > 0 {
		out = route.Closed(out, closed[0].why, check)
	}
	if text := strings.TrimSpace(string(r.Filters)); text != "" && text != "null" && text != "[]" {
		out.Filters.Invalid = "filters"
		closed = append(closed, closedRule{at + ".filters", "filters of a Server's route are not applied: requests of this rule are refused"})
	}
	return out, closed
}

// translate returns a match. What the error is about fits every request.
func (m *RouteMatch) translate(grpc bool) (out mesh.RouteMatch, err error) {
	var wrong error
	if out.Headers, err = values(m.Headers); err != nil {
		wrong = err
	}
	if out.Query, err = values(m.QueryParams); err != nil {
		wrong = err
	}
	if grpc {
		out.GRPC, err = m.grpcMethod()
	} else {
		out.Path, err = m.path()
		if len(m.Method) > 0 && json.Unmarshal(m.Method, &out.Method) != nil {
			wrong = fmt.Errorf("method: %s is none", m.Method)
		}
	}
	if err != nil {
		wrong, out.Path.Kind = err, mesh.PathUnknown
	}
	return out, wrong
}

func (m *RouteMatch) grpcMethod() (out mesh.GRPCMethodMatch, err error) {
	var method struct {
		Type    string `json:"type"`
		Service string `json:"service"`
		Method  string `json:"method"`
	}
	if len(m.Method) > 0 {
		if unknown := read(m.Method, &method); len(unknown) > 0 {
			return out, fmt.Errorf("method: %s", unknown[0])
		}
	}
	if m.Path != nil || method.Type != "" && method.Type != "Exact" {
		return out, fmt.Errorf("method of the type %q, or a path", method.Type)
	}
	return mesh.GRPCMethodMatch{Service: method.Service, Method: method.Method}, nil
}

func (m *RouteMatch) path() (out mesh.PathMatch, err error) {
	if m.Path == nil {
		return out, nil
	}
	kind, ok := pathKinds[m.Path.Type]
	if !ok {
		return out, fmt.Errorf("path of the type %q", m.Path.Type)
	}
	out = mesh.PathMatch{Kind: kind, Value: "/"}
	if m.Path.Value != nil {
		out.Value = *m.Path.Value
	}
	return out, nil
}

var pathKinds = map[string]mesh.PathMatchKind{
	"": mesh.PathPrefix, "PathPrefix": mesh.PathPrefix, "Exact": mesh.PathExact, "RegularExpression": mesh.PathRegex,
}

// values returns matches of header fields or parameters. One of a type that is not known fits
// every request.
func values(in []ValueMatch) (out []mesh.ValueMatch, err error) {
	for _, v := range in {
		m := mesh.ValueMatch{Name: v.Name, Value: v.Value, Regex: v.Type == "RegularExpression"}
		if v.Type != "" && v.Type != "Exact" && !m.Regex {
			m.Unknown, err = true, fmt.Errorf("value of %q: the type %q", v.Name, v.Type)
		}
		out = append(out, m)
	}
	return out, err
}
