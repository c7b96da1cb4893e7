package translate

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/underlane/underlane/pkg/mesh"
)

// claim is a Service's claim to addresses from outside the cluster.
type claim struct {
	service *mesh.Service
	created time.Time
	addrs   []netip.Addr
}

// claimExternal records the addresses, in addition to its ClusterIPs, at which
// kube-proxy makes s reachable from within the cluster
// (kubernetes/pkg/proxy/serviceport.go): spec.externalIPs and, for a load balancer,
// status.loadBalancer.ingress[].ip. kube-proxy uses only the address families of
// the ClusterIPs. externalTrafficPolicy does not apply to clients within the
// cluster.
func (t *translation) claimExternal(s *corev1.Service, out *mesh.Service) {
	if out.NodeLocal {
		// internalTrafficPolicy applies only to ClusterIPs, but agents have one
		// policy for all addresses of a Service. The external addresses therefore
		// stay with kube-proxy.
		return
	}
	c := claim{service: out, created: s.CreationTimestamp.Time}
	add := func(field, ip string) {
		addr, err := netip.ParseAddr(ip)
		if addr = addr.Unmap(); err != nil || !claimable(addr) {
			t.problem(KindService, s.Namespace, s.Name, "%s: %q is no IP address that a Service can have", field, ip)
			return
		}
		sameFamily := func(vip netip.Addr) bool { return vip.Is4() == addr.Is4() }
		if slices.ContainsFunc(out.VIPs, sameFamily) && !slices.Contains(c.addrs, addr) {
			c.addrs = append(c.addrs, addr)
		}
	}
	for _, ip := range s.Spec.ExternalIPs {
		add("spec.externalIPs", ip)
	}
	for _, ip := range loadBalancerIPs(s) {
		add("status.loadBalancer.ingress", ip)
	}
	if len(c.addrs) > 0 {
		t.claims = append(t.claims, c)
	}
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

// settleClaims assigns each port of each external address to one Service. A user
// who may write a Service can claim any address (CVE-2020-8554). Therefore a claim
// to a ClusterIP or to a pod's address has no effect. Of several claims to one port
// the oldest counts; of those of the same age the first by namespace and name. A
// Service can claim the address of a node and of pods on its host network, because
// some load balancers run on the nodes.
func (t *translation) settleClaims() {
	slices.SortFunc(t.claims, func(a, b claim) int {
		return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.service.Namespace, b.service.Namespace), cmp.Compare(a.service.Name, b.service.Name))
	})
	vips := map[netip.Addr]*mesh.Service{}
	for _, s := range t.Services {
		for _, a := range s.VIPs {
			vips[a] = s
		}
	}
	taken := map[netip.AddrPort]*mesh.Service{}
	for _, c := range t.claims {
		refuse := func(format string, args ...any) {
			t.problem(KindService, c.service.Namespace, c.service.Name, format, args...)
		}
		for _, addr := range c.addrs {
			if owner := vips[addr]; owner != nil {
				refuse("the external address %s is the cluster IP of Service %s/%s", addr, owner.Namespace, owner.Name)
				continue
			}
			if owner := t.byAddr[addr]; owner != nil {
				refuse("the external address %s is that of pod %s/%s", addr, owner.Namespace, owner.Name)
				continue
			}
			for i := range c.service.Ports {
				p := &c.service.Ports[i]
				at := netip.AddrPortFrom(addr, p.Port)
				if owner := taken[at]; owner != nil {
					refuse("the external address %s is that of Service %s/%s", at, owner.Namespace, owner.Name)
					continue
				}
				taken[at] = c.service
				p.External = append(p.External, addr)
			}
		}
	}
}
