package translate

import "github.com/underlane/underlane/pkg/mesh"

// addServiceRoutes makes routes from the retries and timeouts in annotations of
// Services: one route for each port that has no other route of the Service's
// namespace. Routes of clients' namespaces have precedence over these in any case.
func (t *translation) addServiceRoutes() {
	taken := t.producerParents()
	for svc, policy := range t.policies {
		if len(svc.VIPs) == 0 {
			t.problem(KindService, svc.Namespace, svc.Name, "annotations on retries and timeouts: without a cluster IP they have no effect")
			continue
		}
		all := mesh.ServicePortRef{Namespace: svc.Namespace, Name: svc.Name}
		if taken[all] {
			continue
		}
		for i := range svc.Ports {
			at := all
			at.Port = svc.Ports[i].Port
			if taken[at] {
				continue
			}
			t.Routes = append(t.Routes, &mesh.Route{
				Kind: KindService, Namespace: svc.Namespace, Name: svc.Name, Parent: at,
				Rules: []mesh.RouteRule{{
					Backends: []mesh.RouteBackend{{Service: at, Weight: 1}},
					Timeouts: policy.timeouts, Retry: policy.retry,
				}},
			})
		}
	}
}

// producerParents returns the Services' ports that have routes of the Service's own
// namespace.
func (t *translation) producerParents() map[mesh.ServicePortRef]bool {
	out := map[mesh.ServicePortRef]bool{}
	for _, r := range t.Routes {
		if !r.Consumer() {
			out[r.Parent] = true
		}
	}
	return out
}
