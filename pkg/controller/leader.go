package controller

import (
	"iter"
	"net"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/underlane/underlane/pkg/controller/translate"
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
	addr := c.leaderAddr.of(name, func() netip.Addr {
		return addrOf(namespace, name, c.state.each(), func() []*translate.Pod { return c.source.Objects().Pods })
	})
	if !addr.IsValid() {
		return false, ""
	}
	return false, net.JoinHostPort(addr.String(), port)
}

// leaderAddr remembers the address of the leader: to find it takes time that grows with the
// cluster, and thousands of agents may ask at once.
type leaderAddr struct {
	mu    sync.Mutex
	name  string
	addr  netip.Addr
	until time.Time
}

// leaderFor is for how long an address counts as that of the leader.
const leaderFor = 2 * time.Second

func (l *leaderAddr) of(name string, find func() netip.Addr) netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.name != name || now.After(l.until) {
		l.name, l.addr, l.until = name, find(), now.Add(leaderFor)
	}
	return l.addr
}

// addrOf returns an address of a pod, or the zero Addr if there is none. Pods on the host's
// network are no workloads: pods is asked for them.
func addrOf(namespace, name string, workloads iter.Seq[*mesh.Workload], pods func() []*translate.Pod) netip.Addr {
	for w := range workloads {
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
