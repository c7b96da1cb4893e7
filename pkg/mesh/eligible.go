package mesh

import "slices"

// Eligible returns the endpoints that clients like local may be sent to: near ones, and far
// ones for the case that no near one is available.
func Eligible(svc *Service, port *ServicePort, local *Workload) (near, far []Endpoint) {
	if svc.NodeLocal {
		return split(port.Endpoints, func(e *Endpoint) bool { return e.Workload != nil && e.Workload.Node == local.Node }), nil
	}
	has := hint(port.Endpoints, local)
	if has == nil {
		return port.Endpoints, nil
	}
	return split(port.Endpoints, has), split(port.Endpoints, func(e *Endpoint) bool { return !has(e) })
}

func split(all []Endpoint, has func(*Endpoint) bool) (some []Endpoint) {
	for i := range all {
		if has(&all[i]) {
			some = append(some, all[i])
		}
	}
	return some
}

// hint returns which endpoints are for clients like local. It follows the hints of
// EndpointSlices as kube-proxy does: hints for nodes come before hints for zones, and
// hints count only if each ready endpoint has one and some match local. nil: all endpoints
// are for local.
func hint(all []Endpoint, local *Workload) func(*Endpoint) bool {
	forNode := func(e *Endpoint) bool { return slices.Contains(e.ForNodes, local.Node) }
	forZone := func(e *Endpoint) bool { return slices.Contains(e.ForZones, local.Zone) }
	nodes, zones := true, local.Zone != ""
	someNode, someZone := false, false
	for i := range all {
		e := &all[i]
		if !e.Ready {
			continue
		}
		nodes, zones = nodes && len(e.ForNodes) > 0, zones && len(e.ForZones) > 0
		someNode, someZone = someNode || forNode(e), someZone || forZone(e)
	}
	switch {
	case nodes && someNode:
		return forNode
	case zones && someZone:
		return forZone
	}
	return nil
}
