package translate

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/underlane/underlane/pkg/controller/depend"
	"github.com/underlane/underlane/pkg/mesh"
)

// claimed is an external address that Services claim.
type claimed struct {
	depend.Node
	tr      *Translator
	addr    netip.Addr
	by      []*service
	granted map[*service][]int // places of ports
}

// claimExternal returns the addresses, in addition to its ClusterIPs, at which
// kube-proxy makes s reachable from within the cluster
// (kubernetes/pkg/proxy/serviceport.go): spec.externalIPs and, for a load balancer,
// status.loadBalancer.ingress[].ip. kube-proxy uses only the address families of
// the ClusterIPs. externalTrafficPolicy does not apply to clients within the
// cluster.
func (t *translation) claimExternal(s *corev1.Service, out *mesh.Service) (claims []netip.Addr) {
	if out.NodeLocal {
		// internalTrafficPolicy applies only to ClusterIPs, but agents have one
		// policy for all addresses of a Service. The external addresses therefore
		// stay with kube-proxy.
		return nil
	}
	add := func(field, ip string) {
		addr, err := netip.ParseAddr(ip)
		if addr = addr.Unmap(); err != nil || !claimable(addr) {
			t.problem(KindService, s.Namespace, s.Name, "%s: %q is no IP address that a Service can have", field, ip)
			return
		}
		sameFamily := func(vip netip.Addr) bool { return vip.Is4() == addr.Is4() }
		if slices.ContainsFunc(out.VIPs, sameFamily) && !slices.Contains(claims, addr) {
			claims = append(claims, addr)
		}
	}
	for _, ip := range s.Spec.ExternalIPs {
		add("spec.externalIPs", ip)
	}
	for _, ip := range loadBalancerIPs(s) {
		add("status.loadBalancer.ingress", ip)
	}
	return claims
}

// claimable checks the API server's requirements for external IPs.
func claimable(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() && !a.IsLinkLocalUnicast()
}

// loadBalancerIPs returns the load balancer's addresses for which kube-proxy sends
// clients within the cluster directly to the endpoints. Addresses with ipMode Proxy
// are not among them. The result is empty if spec.loadBalancerSourceRanges limits
// the clients, because kube-proxy enforces these ranges and the mesh does not.
func loadBalancerIPs(s *corev1.Service) (out []string) {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer || len(s.Spec.LoadBalancerSourceRanges) > 0 {
		return nil
	}
	for _, i := range s.Status.LoadBalancer.Ingress {
		if i.IP != "" && (i.IPMode == nil || *i.IPMode == corev1.LoadBalancerIPModeVIP) {
			out = append(out, i.IP)
		}
	}
	return out
}

// Compute assigns each port of an external address to one Service. A user who may write a
// Service can claim any address (CVE-2020-8554). Therefore a claim to a ClusterIP or to a pod's
// address has no effect. Of several claims to one port the oldest counts; of those of the same
// age the first by namespace and name. A Service can claim the address of a node and of pods on
// its host network, because some load balancers run on the nodes.
//
// It depends on the Services that claim the address or have it as ClusterIP, and on the pod
// that has it.
func (c *claimed) Compute() bool {
	t := c.tr.translation()
	old := c.granted
	c.granted = nil
	slices.SortFunc(c.by, func(a, b *service) int {
		return cmp.Or(c.tr.shape(a.name).created.Compare(c.tr.shape(b.name).created), a.compare(b.name))
	})
	taken := map[uint16]*service{}
	for _, s := range c.by {
		refuse := func(format string, args ...any) {
			t.problem(KindService, s.namespace, s.name.name, format, args...)
		}
		if owner := c.tr.vipOf(c.addr); owner != nil {
			refuse("the external address %s is the cluster IP of Service %s/%s", c.addr, owner.namespace, owner.name.name)
			continue
		}
		if owner := c.tr.ownerOf(c.addr); owner != nil {
			refuse("the external address %s is that of pod %s/%s", c.addr, owner.namespace, owner.name.name)
			continue
		}
		ports := c.tr.shape(s.name).svc.Ports
		for i := range ports {
			if owner := taken[ports[i].Port]; owner != nil {
				refuse("the external address %s is that of Service %s/%s", netip.AddrPortFrom(c.addr, ports[i].Port), owner.namespace, owner.name.name)
				continue
			}
			taken[ports[i].Port] = s
			if c.granted == nil {
				c.granted = map[*service][]int{}
			}
			c.granted[s] = append(c.granted[s], i)
		}
	}
	c.tr.out.say(&c.Node, &t.Result)
	return !maps.EqualFunc(old, c.granted, slices.Equal)
}

// grant gives out the external addresses that s may have.
func (s *service) grant(shape *shape, out *mesh.Service) {
	for _, addr := range shape.claims {
		c := s.tr.claimed(addr)
		s.tr.graph.Read(&c.Node)
		for _, i := range c.granted[s] {
			out.Ports[i].External = append(out.Ports[i].External, addr)
		}
	}
}

// vip is an address that Services have as ClusterIP.
type vip struct {
	depend.Node // an input
	of          []*service
}

// indexService indexes the addresses of a Service whose shape has changed.
func (tr *Translator) indexService(s *service, old, now *shape) {
	if old != nil {
		for _, a := range old.svc.VIPs {
			v := tr.vip(a)
			v.of = slices.DeleteFunc(v.of, func(other *service) bool { return other == s })
			tr.graph.Touch(&v.Node)
		}
		for _, a := range old.claims {
			c := tr.claimed(a)
			c.by = slices.DeleteFunc(c.by, func(other *service) bool { return other == s })
			tr.graph.Mark(&c.Node)
		}
	}
	if now != nil {
		for _, a := range now.svc.VIPs {
			v := tr.vip(a)
			v.of = append(v.of, s)
			tr.graph.Touch(&v.Node)
		}
		for _, a := range now.claims {
			c := tr.claimed(a)
			c.by = append(c.by, s)
			tr.graph.Mark(&c.Node)
		}
	}
	if now != nil && !now.policy.empty() || old != nil && !old.policy.empty() {
		tr.graph.Mark(&s.routes.Node)
	}
}

// vipOf returns the Service with this ClusterIP, of several the first by name.
func (x *index) vipOf(a netip.Addr) (first *service) {
	v := x.vip(a)
	x.graph.Read(&v.Node)
	for _, s := range v.of {
		if first == nil || s.compare(first.name) < 0 {
			first = s
		}
	}
	return first
}
