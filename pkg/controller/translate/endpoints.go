package translate

import (
	"cmp"
	"math"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/underlane/underlane/pkg/mesh"
)

// endpoints reads the endpoints of a Service.
type endpoints struct{ *translation }

func (t *translation) clusterIPs(s *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, ip := range append([]string{s.Spec.ClusterIP}, s.Spec.ClusterIPs...) {
		if ip == "" || ip == corev1.ClusterIPNone {
			continue
		}
		addr, err := netip.ParseAddr(ip)
		if err != nil || addr.Zone() != "" {
			t.problem("Service", s.Namespace, s.Name, "clusterIP %q is not an IP address", ip)
			continue
		}
		if addr = addr.Unmap(); !slices.Contains(out, addr) {
			out = append(out, addr)
		}
	}
	return out
}

func (t *endpoints) selectedEndpoints(s *corev1.Service, port *corev1.ServicePort) []candidate {
	sel := labels.SelectorFromSet(s.Spec.Selector)
	var out []candidate
	for _, p := range t.from.selected(s.Namespace, sel) {
		n, ok := targetPort(p.Pod, port)
		if !ok {
			continue
		}
		for _, addr := range p.workload.Addrs {
			out = append(out, candidate{
				addr: netip.AddrPortFrom(addr, n), workload: p.workload, node: p.Spec.NodeName,
				ready:    p.workload.Ready || s.Spec.PublishNotReadyAddresses,
				draining: p.DeletionTimestamp != nil && serving(p.Pod, true),
			})
		}
	}
	return out
}

// targetPort returns the pod's port for a service port. As in Kubernetes, a pod
// without a port of that name is not an endpoint.
func targetPort(p *Pod, port *corev1.ServicePort) (uint16, bool) {
	n := cmp.Or(port.TargetPort.IntVal, port.Port)
	if port.TargetPort.Type == intstr.String && port.TargetPort.StrVal != "" {
		n = namedPort(p, port.TargetPort.StrVal)
	}
	return uint16(n), n >= 1 && n <= math.MaxUint16
}

func namedPort(p *Pod, name string) int32 {
	containers := p.Spec.Containers
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(containers[:len(containers):len(containers)], *c) // a sidecar: it runs beside the others
		}
	}
	for i := range containers {
		for _, cp := range containers[i].Ports {
			if cp.Name == name && (cp.Protocol == "" || cp.Protocol == corev1.ProtocolTCP) {
				return cp.ContainerPort
			}
		}
	}
	return 0
}

// serviceOf returns the Service that a slice is of, false for none.
func serviceOf(s *discoveryv1.EndpointSlice) (name, bool) {
	svc := s.Labels[discoveryv1.LabelServiceName]
	return name{s.Namespace, svc}, svc != "" && s.AddressType != discoveryv1.AddressTypeFQDN
}

func (t *endpoints) sliceEndpoints(all []*discoveryv1.EndpointSlice, port string) []candidate {
	total := 0
	for _, s := range all {
		total += len(s.Endpoints) // most have one address
	}
	out := make([]candidate, 0, total)
	for _, s := range all {
		n, ok := slicePort(s, port)
		if !ok {
			continue
		}
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			c := candidate{ready: isTrue(e.Conditions.Ready, true)}
			c.draining = isTrue(e.Conditions.Serving, true) && isTrue(e.Conditions.Terminating, false)
			if !c.ready && !c.draining {
				continue
			}
			if e.NodeName != nil {
				c.node = *e.NodeName
			}
			c.zones, c.nodes = hints(e)
			for _, a := range e.Addresses {
				addr, err := netip.ParseAddr(a)
				if err != nil || addr.Zone() != "" {
					t.problem("EndpointSlice", s.Namespace, s.Name, "address %q is not an IP address", a)
					continue
				}
				c.addr, c.workload = netip.AddrPortFrom(addr.Unmap(), n), t.behind(s.Namespace, e, addr.Unmap())
				out = append(out, c)
			}
		}
	}
	return out
}

// isTrue reads a condition. absent is its value when it is not set
// (discovery.k8s.io/v1 EndpointConditions).
func isTrue(condition *bool, absent bool) bool {
	if condition == nil {
		return absent
	}
	return *condition
}

func slicePort(s *discoveryv1.EndpointSlice, name string) (uint16, bool) {
	for _, p := range s.Ports {
		isTCP := p.Protocol == nil || *p.Protocol == corev1.ProtocolTCP
		named := p.Name != nil && *p.Name == name || p.Name == nil && name == ""
		if isTCP && named && p.Port != nil && *p.Port >= 1 && *p.Port <= math.MaxUint16 {
			return uint16(*p.Port), true
		}
	}
	return 0, false
}

// behind returns the workload of an endpoint: the pod that the endpoint names, or
// else the pod with its address, or else nil.
func (t *endpoints) behind(namespace string, e *discoveryv1.Endpoint, addr netip.Addr) *mesh.Workload {
	if ref := e.TargetRef; ref != nil && ref.Kind == "Pod" {
		p := t.from.made(t.from.workload(name{cmp.Or(ref.Namespace, namespace), ref.Name}))
		if p != nil && slices.Contains(p.workload.Addrs, addr) {
			return p.workload
		}
	}
	if w := t.from.ownerOf(addr); w != nil {
		if p := t.from.made(w); p != nil {
			return p.workload
		}
	}
	return nil
}
