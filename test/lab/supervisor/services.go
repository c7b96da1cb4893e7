package supervisor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/underlane/underlane/test/lab/fabric"
	"github.com/underlane/underlane/test/lab/layout"
)

// allotClusterIPs assigns a service its addresses: of both families unless it asks
// for one, none if it is headless. It keeps the addresses of before, the service's
// previous version. mu is held.
func (c *cluster) allotClusterIPs(s, before *corev1.Service) error {
	if s.Spec.ClusterIP == corev1.ClusterIPNone {
		s.Spec.ClusterIPs = []string{corev1.ClusterIPNone}
		return nil
	}
	var addrs []netip.Addr
	if before != nil {
		addrs = clusterIPs(before)
	}
	if len(addrs) == 0 {
		if c.services == layout.LastService {
			return fmt.Errorf("service %s/%s: no ClusterIP is left", s.Namespace, s.Name)
		}
		c.services++
		for _, a := range layout.ServiceAddrs(c.services) {
			if wantsFamily(&s.Spec, a) {
				addrs = append(addrs, a)
			}
		}
	}
	s.Spec.ClusterIPs, s.Spec.IPFamilies = nil, nil
	for _, a := range addrs {
		s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, a.String())
		s.Spec.IPFamilies = append(s.Spec.IPFamilies, familyOf(a))
	}
	s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	return nil
}

func wantsFamily(spec *corev1.ServiceSpec, a netip.Addr) bool {
	if len(spec.IPFamilies) > 0 {
		return slices.Contains(spec.IPFamilies, familyOf(a))
	}
	single := spec.IPFamilyPolicy != nil && *spec.IPFamilyPolicy == corev1.IPFamilyPolicySingleStack
	return a.Is4() || !single
}

func familyOf(a netip.Addr) corev1.IPFamily {
	if a.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// clusterIPs returns a service's addresses, none if it is headless.
func clusterIPs(s *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, text := range s.Spec.ClusterIPs {
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// backends returns the ready pods that a service selects.
func backends(s *corev1.Service, objects []metav1.Object) []*corev1.Pod {
	if len(s.Spec.Selector) == 0 {
		return nil
	}
	selector := labels.SelectorFromSet(s.Spec.Selector)
	var out []*corev1.Pod
	for _, obj := range objects {
		p, ok := obj.(*corev1.Pod)
		if ok && p.Namespace == s.Namespace && p.DeletionTimestamp == nil && isReady(p) && selector.Matches(labels.Set(p.Labels)) {
			out = append(out, p)
		}
	}
	return out
}

// addresses are the ClusterIPs of a service and, unless it is headless, its
// external addresses: as kube-proxy serves them to clients within the cluster.
func addresses(s *corev1.Service) []netip.Addr {
	out := clusterIPs(s)
	if len(out) == 0 {
		return nil
	}
	external := slices.Clone(s.Spec.ExternalIPs)
	for _, i := range s.Status.LoadBalancer.Ingress {
		if i.IPMode == nil || *i.IPMode == corev1.LoadBalancerIPModeVIP {
			external = append(external, i.IP)
		}
	}
	for _, text := range external {
		if a, err := netip.ParseAddr(text); err == nil && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// places are the addresses and ports at which a port of a service is reached: the node ports
// are at the nodes' addresses of the service's families.
func places(s *corev1.Service, port corev1.ServicePort, nodes []netip.Addr) []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range addresses(s) {
		out = append(out, netip.AddrPortFrom(a, uint16(port.Port)))
	}
	if port.NodePort == 0 {
		return out
	}
	for _, node := range nodes {
		if slices.ContainsFunc(clusterIPs(s), func(a netip.Addr) bool { return a.Is4() == node.Is4() }) {
			out = append(out, netip.AddrPortFrom(node, uint16(port.NodePort)))
		}
	}
	return out
}

// nodeAddresses returns the addresses of all nodes.
func nodeAddresses(objects []metav1.Object) []netip.Addr {
	var out []netip.Addr
	for _, obj := range objects {
		n, ok := obj.(*corev1.Node)
		if !ok {
			continue
		}
		for _, a := range n.Status.Addresses {
			if addr, err := netip.ParseAddr(a.Address); err == nil {
				out = append(out, addr)
			}
		}
	}
	return out
}

// vips is what the nodes must do for the addresses of all services, in a stable
// order.
func vips(objects []metav1.Object) []fabric.VIP {
	var out []fabric.VIP
	nodes := nodeAddresses(objects)
	for _, obj := range objects {
		s, ok := obj.(*corev1.Service)
		if !ok {
			continue
		}
		pods := backends(s, objects)
		for _, port := range s.Spec.Ports {
			for _, at := range places(s, port, nodes) {
				v := fabric.VIP{Addr: at, Protocol: "tcp"}
				if port.Protocol == corev1.ProtocolUDP {
					v.Protocol = "udp"
				}
				for _, p := range pods {
					v.Endpoints = append(v.Endpoints, endpoints(p, port, at.Addr())...)
				}
				out = append(out, v)
			}
		}
	}
	slices.SortFunc(out, func(a, b fabric.VIP) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Protocol, b.Protocol))
	})
	return out
}

// endpoints returns the pod's address of the family of vip, with the target port of
// the service port. It returns none if the pod has no port of that name.
func endpoints(p *corev1.Pod, port corev1.ServicePort, vip netip.Addr) []netip.AddrPort {
	target := targetPort(p, port)
	if target == 0 {
		return nil
	}
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil && a.Is4() == vip.Is4() {
			return []netip.AddrPort{netip.AddrPortFrom(a, target)}
		}
	}
	return nil
}

func targetPort(p *corev1.Pod, port corev1.ServicePort) uint16 {
	if port.TargetPort.Type == intstr.Int {
		return uint16(cmp.Or(port.TargetPort.IntVal, port.Port))
	}
	for _, c := range p.Spec.Containers {
		for _, cp := range c.Ports {
			same := cmp.Or(cp.Protocol, corev1.ProtocolTCP) == cmp.Or(port.Protocol, corev1.ProtocolTCP)
			if cp.Name == port.TargetPort.StrVal && same {
				return uint16(cp.ContainerPort)
			}
		}
	}
	return 0
}

// hostsFile returns /etc/hosts of a pod. It has the pod itself and all services,
// with the names that a cluster's DNS would have. A headless service has the
// addresses of its ready pods.
func hostsFile(p *corev1.Pod, objects []metav1.Object) string {
	lines := []string{"127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"}
	for _, ip := range p.Status.PodIPs {
		lines = append(lines, ip.IP+" "+hostname(p))
	}
	var names []string
	for _, obj := range objects {
		s, ok := obj.(*corev1.Service)
		if !ok {
			continue
		}
		qualified := s.Name + "." + s.Namespace
		aliases := fmt.Sprintf("%[1]s.svc.cluster.local %[1]s.svc %[1]s", qualified)
		if s.Namespace == p.Namespace {
			aliases += " " + s.Name
		}
		for _, a := range nameAddrs(s, objects) {
			names = append(names, a.String()+" "+aliases)
		}
	}
	slices.Sort(names) // digits before "f": IPv4 first
	return strings.Join(append(lines, names...), "\n") + "\n"
}

func nameAddrs(s *corev1.Service, objects []metav1.Object) []netip.Addr {
	if s.Spec.ClusterIP != corev1.ClusterIPNone {
		return clusterIPs(s)
	}
	var out []netip.Addr
	for _, p := range backends(s, objects) {
		for _, ip := range p.Status.PodIPs {
			out = append(out, netip.MustParseAddr(ip.IP))
		}
	}
	return out
}
