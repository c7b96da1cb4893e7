package translate

import "github.com/underlane/underlane/pkg/mesh"

// computeRoutes makes routes from the retries and timeouts in annotations of a Service: one
// route for each port that has no other route of the Service's namespace. Routes of clients'
// namespaces have precedence over these in any case.
func (s *service) computeRoutes() bool {
	t := s.tr.translation()
	defer func() { s.tr.out.say(&s.routes.Node, &t.Result) }()
	shape := s.tr.shape(s.name)
	if shape == nil || shape.policy.empty() {
		return false
	}
	svc := &shape.svc
	if len(svc.VIPs) == 0 {
		t.problem(KindService, svc.Namespace, svc.Name, "annotations on retries and timeouts: without a cluster IP they have no effect")
		return false
	}
	taken := s.producerParents()
	s.tr.graph.Read(&s.splits.Node)
	all := mesh.ServicePortRef{Namespace: svc.Namespace, Name: svc.Name}
	for _, port := range s.splits.ports {
		at := all
		at.Port = port
		taken[at] = true
	}
	if taken[all] {
		return false
	}
	for i := range svc.Ports {
		at := all
		at.Port = svc.Ports[i].Port
		if taken[at] {
			continue
		}
		taken[at] = true
		t.Routes = append(t.Routes, &mesh.Route{
			Kind: KindService, Namespace: svc.Namespace, Name: svc.Name, Parent: at,
			Rules: []mesh.RouteRule{{
				Backends: []mesh.RouteBackend{{Service: at, Weight: 1}},
				Timeouts: shape.policy.timeouts, Retry: shape.policy.retry,
			}},
		})
	}
	return false
}

// producerParents returns the Service's ports that have routes of the Service's own namespace;
// port 0 stands for all.
func (s *service) producerParents() map[mesh.ServicePortRef]bool {
	s.tr.graph.Read(&s.producing)
	out := map[mesh.ServicePortRef]bool{}
	for port := range s.producers {
		out[mesh.ServicePortRef{Namespace: s.namespace, Name: s.name.name, Port: port}] = true
	}
	return out
}
