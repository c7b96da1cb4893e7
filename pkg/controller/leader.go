package controller

import (
	"net"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/underlane/underlane/pkg/mesh"
)

// leader reports whether this controller leads, and otherwise the address at which agents
// connect to the one that does, "" if it is not known: see server.Options. It is called when
// an agent opens a stream.
func (c *Controller) leader() (leads bool, address string) {
	if c.writer.Leading() {
		return true, ""
	}
	namespace, name := c.platform.Leader()
	if name == "" {
		return false, ""
	}
	_, port, err := net.SplitHostPort(c.opt.Listen)
	if err != nil {
		return false, ""
	}
	addr := addrOf(namespace, name, c.Workloads(), func() []*corev1.Pod { return c.source.Objects().Pods })
	if !addr.IsValid() {
		return false, ""
	}
	return false, net.JoinHostPort(addr.String(), port)
}

// addrOf returns an address of a pod, or the zero Addr if there is none. Pods on the host's
// network are no workloads: pods is asked for them.
func addrOf(namespace, name string, workloads []*mesh.Workload, pods func() []*corev1.Pod) netip.Addr {
	for _, w := range workloads {
		if w.Namespace == namespace && w.Name == name && len(w.Addrs) > 0 {
			return w.Addrs[0].Unmap()
		}
	}
	for _, p := range pods() {
		if p.Namespace != namespace || p.Name != name {
			continue
		}
		for _, text := range append([]corev1.PodIP{{IP: p.Status.PodIP}}, p.Status.PodIPs...) {
			if addr, err := netip.ParseAddr(text.IP); err == nil {
				return addr.Unmap()
			}
		}
	}
	return netip.Addr{}
}
