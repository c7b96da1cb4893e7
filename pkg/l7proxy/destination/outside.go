package destination

import (
	"math/rand/v2"
	"net/netip"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// Egress implements Target.
func (t *Outbound) Egress() *Egress { return t.look().egress }

// Judge returns why an opaque connection to the target is not allowed any more, or nil. It
// waits for nothing.
func (t *Outbound) Judge(said Said) error {
	e := t.peek().egress
	if e == nil {
		return nil
	}
	_, err := e.opaque(said, 0)
	return err
}

// outside sets what the EgressNetworks say about the target: an address outside the mesh, or
// a Service with endpoints there.
func (k *knowledge) outside(d *Directory, v *state.View, dst netip.AddrPort) {
	if k.egress = nil; k.routing != nil && k.routing.Egress != nil {
		k.routing = nil
	}
	switch {
	case !v.HasEgress() || k.pod != nil:
	case k.Backend.Service == nil:
		if n := v.Egress(k.local.Namespace, dst.Addr()); n != nil {
			k.egress = d.egress(v, n, dst.Port(), k.local, dst.Addr().Is4())
		}
	case k.Port != nil:
		if n, port := outsideOf(v, k.local.Namespace, k.Backend.Service, k.Port); n != nil {
			k.egress = d.egress(v, n, port, k.local, dst.Addr().Is4())
		}
	}
	if k.egress != nil && k.routing == nil {
		k.routing = k.egress.http
	}
}

// outsideOf returns the EgressNetwork that endpoints of a Service belong to for clients of a
// namespace, one that denies if there are several, and the port of that endpoint.
func outsideOf(v *state.View, namespace string, svc *mesh.Service, p *mesh.ServicePort) (found *mesh.EgressNetwork, port uint16) {
	if isAPIServer(svc) {
		return nil, 0
	}
	for i := range p.Endpoints {
		ep := &p.Endpoints[i]
		if ep.Workload != nil {
			continue
		}
		if n := v.Egress(namespace, ep.Addr.Addr()); n != nil && (found == nil || n.Deny && !found.Deny) {
			found, port = n, ep.Addr.Port()
		}
	}
	return found, port
}

// isAPIServer reports whether svc is the Service of the API server, which is no pod and
// belongs to the cluster.
func isAPIServer(svc *mesh.Service) bool {
	return svc.Namespace == "default" && svc.Name == "kubernetes"
}

// admitOutside decides about an endpoint of a Service that is outside the mesh. judged is
// the Egress by which the request or connection was judged before; nil: it was not.
func (d *admission) admitOutside(local *mesh.Workload, to *Backend, ep *mesh.Endpoint, judged *Egress) error {
	if ep.Workload != nil || to.ruled || isAPIServer(to.Service) {
		return nil
	}
	v := d.State.View()
	n := v.Egress(local.Namespace, ep.Addr.Addr())
	if n == nil || judged != nil && judged.Network == n {
		return nil
	}
	// The client's bytes were not judged by this network: only what allows every
	// connection counts.
	e := d.egress(v, n, ep.Addr.Port(), local, ep.Addr.Addr().Is4())
	_, err := e.opaque(Said{}, rand.Uint64())
	return err
}
