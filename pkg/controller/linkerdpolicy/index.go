package linkerdpolicy

// index finds objects by where they are looked for, so that the time for a cluster's Servers
// does not grow with the square of its policies. The places are those in the slices of
// Objects, in their order.
type index struct {
	sizes [6]int
	// By namespace.
	policies, older, routes map[string][]int
	// By the Server that is their target: first the one that holds.
	limits map[name][]int
	// By name: the first of each.
	tls, networks, servers map[name]int
}

type name struct{ namespace, name string }

func (o *Objects) sizes() [6]int {
	return [...]int{len(o.Servers), len(o.Policies), len(o.MeshTLS), len(o.Networks), len(o.Older), len(o.AllRoutes) + len(o.RateLimits)}
}

// places returns the index of the objects that there are now.
func (o *Objects) places() *index {
	if o.index == nil || o.index.sizes != o.sizes() {
		o.index = &index{
			sizes:    o.sizes(),
			policies: byNamespace(o.Policies, func(p *AuthorizationPolicy) string { return p.Namespace }),
			older:    byNamespace(o.Older, func(a *ServerAuthorization) string { return a.Namespace }),
			routes:   byNamespace(o.AllRoutes, func(r *Route) string { return r.Namespace }),
			limits:   o.limitsByServer(),
			tls:      byName(o.MeshTLS, func(a *MeshTLSAuthentication) name { return name{a.Namespace, a.Name} }),
			networks: byName(o.Networks, func(a *NetworkAuthentication) name { return name{a.Namespace, a.Name} }),
			servers:  byName(o.Servers, func(s *Server) name { return name{s.Namespace, s.Name} }),
		}
	}
	return o.index
}

func byNamespace[T any](all []T, of func(*T) string) map[string][]int {
	out := map[string][]int{}
	for i := range all {
		namespace := of(&all[i])
		out[namespace] = append(out[namespace], i)
	}
	return out
}

func byName[T any](all []T, of func(*T) name) map[name]int {
	out := make(map[name]int, len(all))
	for i := range all {
		if n := of(&all[i]); !has(out, n) {
			out[n] = i
		}
	}
	return out
}

func has(places map[name]int, n name) bool { _, ok := places[n]; return ok }
