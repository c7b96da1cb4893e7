package redirect

import (
	"fmt"
	"slices"

	"github.com/underlane/underlane/bpf"
)

// Refuse makes the kernel refuse new connections to the pod, as it refuses them without
// the mesh when no program of the pod listens. Connections of the node's own processes and
// to the pod's own addresses pass to the kernel, which finds no listener either. The agent
// still gets the connections that the pod opens, and the accepted connections continue.
// The caller has found that nothing in the pod listens, and that nothing will any more.
// Enrolling the pod again ends it.
func (p *Pod) Refuse() error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.d.pods[p.UID] != p || p.refuses {
		return nil
	}
	before := p.config.InboundFailClosed
	p.config.InboundFailClosed = 1
	// Without listeners the programs would pass connections to a pod that fails open. So
	// the entry comes first.
	if err := p.d.objs.Pods.Put(p.Cookie(), &p.config); err != nil {
		p.config.InboundFailClosed = before
		return fmt.Errorf("refuse connections to %s: pods map: %w", p.Name, err)
	}
	p.refuses = true
	for _, l := range p.kinds {
		if inbound(l.kind) {
			key := p.listenerKey(l.kind)
			p.d.gone(p.d.objs.Listeners.Delete(&key), p.d.objs.Listeners)
		}
	}
	// Repair must not publish them again.
	p.kinds = slices.DeleteFunc(p.kinds, func(l listening) bool { return inbound(l.kind) })
	return nil
}

func inbound(kind bpf.UnderlaneListenerKind) bool {
	return kind == bpf.UnderlaneListenerKindLISTENER_INBOUND4 || kind == bpf.UnderlaneListenerKindLISTENER_INBOUND6
}

// Listening reports whether a socket of the pod listens at an address that other pods can
// connect to. The agent's own listeners are at loopback addresses.
func (p *sockets) Listening() (bool, error) {
	is, err := p.ns.Listening()
	if err != nil {
		return false, fmt.Errorf("listeners of %s: %w", p.Name, err)
	}
	return is, nil
}
