package linkerdpolicy

import (
	"slices"

	"github.com/underlane/underlane/pkg/policy/authz"
)

// Group returns what a Server says of its ports, without the ports: the policies, the routes
// and the limit of requests, which is nil if there is none.
func (o *Objects) Group(s *Server, trustDomain string) (authz.Group, *authz.RateLimit, []authz.Problem) {
	policies, mode, problems := o.ForServer(s)
	routes, attached, more := o.Routes(s)
	problems = append(problems, more...)
	g := authz.Group{Name: serverName(s), Default: mode, Unmatched: mode, Routed: attached}
	names := map[string]bool{}
	for _, r := range routes {
		g.Routes = append(g.Routes, authz.Route{Name: r.Name, Match: r.Route})
		names[r.Name] = true
	}
	// A policy of a route of another Server must not make this one look at requests.
	g.Policies = slices.DeleteFunc(policies, func(p authz.Policy) bool {
		if len(p.Rules) == 0 || len(p.Rules[0].To) == 0 {
			return false
		}
		return !slices.ContainsFunc(p.Rules[0].To[0].Routes, func(name string) bool { return names[name] })
	})
	if !s.readsRequests() {
		return g, nil, problems
	}
	limit, more := o.RateLimit(s, trustDomain)
	return g, limit, append(problems, more...)
}

// readsRequests reports whether the protocol of a Server has requests that are read.
func (s *Server) readsRequests() bool {
	return s.Spec.ProxyProtocol != "opaque" && s.Spec.ProxyProtocol != "TLS" // what is not known may have some
}
