package figures

import "github.com/underlane/underlane/pkg/mesh"

// interned is a Key with one pointer for each name, because the same pods and services
// come in many keys. It is comparable as a Key is, among those of one names.
type interned struct {
	direction           mesh.Direction
	source, destination *End
	service             *Service
	route               *Route
	protocol, tls       string
}

func (k *interned) key() Key {
	return Key{
		Direction: k.direction, Source: *k.source, Destination: *k.destination,
		Service: *k.service, Route: *k.route, Protocol: k.protocol, TLS: k.tls,
	}
}

// own returns the end at the agent's own node.
func (k *interned) own() *End {
	if k.direction == mesh.Inbound {
		return k.destination
	}
	return k.source
}

// names has what interned points to.
type names struct {
	ends     map[End]*End
	services map[Service]*Service
	routes   map[Route]*Route
}

func newNames() names {
	return names{map[End]*End{}, map[Service]*Service{}, map[Route]*Route{}}
}

// intern returns k with pointers. It adds the names that n does not have, if add is true.
// Otherwise ok is false if there is one.
func (n *names) intern(k *Key, add bool) (short interned, ok bool) {
	short = interned{
		direction: k.Direction, source: pointer(n.ends, k.Source, add), destination: pointer(n.ends, k.Destination, add),
		service: pointer(n.services, k.Service, add), route: pointer(n.routes, k.Route, add), protocol: k.Protocol, tls: k.TLS,
	}
	return short, short.source != nil && short.destination != nil && short.service != nil && short.route != nil
}

func pointer[T comparable](m map[T]*T, value T, add bool) *T {
	p := m[value]
	if p == nil && add {
		p = new(T)
		*p = value
		m[value] = p
	}
	return p
}

// keep adds what k points to, of an older names.
func (n *names) keep(k *interned) {
	n.ends[*k.source], n.ends[*k.destination] = k.source, k.destination
	n.services[*k.service], n.routes[*k.route] = k.service, k.route
}
