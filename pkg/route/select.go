package route

import "github.com/underlane/underlane/pkg/mesh"

// Select returns the routes that apply to clients of a namespace at a port of a
// Service (GEP-1294): the routes of the client's namespace or, if it has none,
// those of the Service's namespace. The two are never merged.
func Select(routes []*mesh.Route, parent mesh.ServicePortRef, client string) []*mesh.Route {
	var consumer, producer []*mesh.Route
	for _, r := range routes {
		p := r.Parent
		switch {
		case p.Namespace != parent.Namespace, p.Name != parent.Name, p.Port != 0 && p.Port != parent.Port:
		case !r.Consumer():
			producer = append(producer, r)
		case r.Namespace == client:
			consumer = append(consumer, r)
		}
	}
	if len(consumer) > 0 {
		return consumer
	}
	return producer
}
