package translate

import (
	"math"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
)

// addrsOf returns the addresses at which the pods of the cluster reach a node.
func addrsOf(n *corev1.Node) (out []netip.Addr) {
	for _, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		if addr, err := netip.ParseAddr(a.Address); err == nil && addr.Zone() == "" {
			out = append(out, addr.Unmap())
		}
	}
	return out
}

// isNodePort reports whether kube-proxy makes p reachable at every node, with all endpoints
// behind it. With externalTrafficPolicy: Local, what is behind it depends on the node that
// is called and on the client's (kubernetes/pkg/proxy): such node ports stay with kube-proxy.
func isNodePort(s *corev1.Service, p *corev1.ServicePort) bool {
	typed := s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer
	return typed && s.Spec.ExternalTrafficPolicy != corev1.ServiceExternalTrafficPolicyLocal && p.NodePort >= 1 && p.NodePort <= math.MaxUint16
}
