package agent

import (
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/agent/nodeapi"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/redirect/netns"
)

// settle brings one wanted pod to where it should be, as far as it can now.
// busy is held.
func (p *pods) settle(w *mesh.Workload, deep bool) bool {
	have, changed := p.note(w)
	var ns *netns.NS // nil: to be found
	if e := have.enrolled; e != nil {
		if changed || deep {
			ns = p.moved(have, w)
		}
		if ns == nil {
			if changed {
				if err := p.agent.datapath.Update(have.workload); err != nil {
					p.agent.log.Error("settings of a pod", "err", err)
				}
			}
			return true
		}
		p.agent.log.Info("pod has a new sandbox", "pod", e.Name)
		p.retire(have)
	}
	if !p.certified(w.Identity) && time.Since(have.since) < certificateWait {
		p.shut(have, ns)
		p.set(have, nodeapi.PodPending, "waiting for its certificate", nil, 0)
		return false
	}
	if ns == nil {
		var err error
		if ns, err = p.finder.Find(w.UID, have.workload.Addrs); err != nil {
			p.failed(have, err)
			return false
		}
	}
	return p.enrol(have, ns)
}

// shut closes a strict pod that is to wait: until it is enrolled it would be open
// to everybody. Where that fails, it is. It owns ns, which is nil where it is to be
// found.
func (p *pods) shut(have *pod, ns *netns.NS) {
	w := have.workload
	if have.shut || w.Settings.Policy != mesh.PolicyStrict {
		closeNS(ns)
		if have.shut {
			_ = p.agent.datapath.Update(w) // it may not be strict any more
		}
		return
	}
	if ns == nil {
		var err error
		if ns, err = p.finder.Find(w.UID, w.Addrs); err != nil {
			return // it is tried again
		}
	}
	err := p.agent.datapath.Shut(w, ns)
	if err != nil {
		p.agent.log.Warn("a strict pod is open until it is enrolled", "pod", w.Namespace+"/"+w.Name, "cause", err)
	}
	have.shut = err == nil
}

func closeNS(ns *netns.NS) {
	if ns != nil {
		_ = ns.Close()
	}
}

// note records that w is wanted. changed: the state says something else of it
// than before.
func (p *pods) note(w *mesh.Workload) (have *pod, changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	have = p.pods[w.UID]
	if have == nil {
		have = &pod{state: nodeapi.PodPending, since: time.Now()}
		p.pods[w.UID] = have
	}
	if have.source == w {
		return have, false
	}
	have.source, have.workload = w, w
	if have.enrolled != nil && len(w.Addrs) == 0 {
		have.workload = withAddrs(w, have.enrolled.Addrs())
	}
	return have, true
}

// withAddrs is w with other addresses.
func withAddrs(w *mesh.Workload, addrs []netip.Addr) *mesh.Workload {
	with := *w
	with.Addrs = addrs
	return &with
}

// moved returns the namespace that owns the pod's addresses now, nil where that
// is the one which is enrolled. While there is no other, the pod stays as it is,
// with the addresses that it was enrolled with: its sandbox is being torn down,
// or the state has not heard of the new one's addresses.
func (p *pods) moved(have *pod, w *mesh.Workload) *netns.NS {
	e := have.enrolled
	if len(w.Addrs) == 0 {
		return nil
	}
	owns, err := e.Owns(w.Addrs)
	if err != nil {
		p.agent.log.Warn("cannot look into a pod's namespace", "pod", e.Name, "err", err)
	}
	if owns {
		return nil
	}
	ns, err := p.finder.Find(w.UID, w.Addrs)
	if err == nil && ns.Cookie() != e.Cookie() {
		return ns
	}
	closeNS(ns)
	p.mu.Lock()
	have.workload = withAddrs(w, e.Addrs())
	p.mu.Unlock()
	return nil
}

// enrol takes a pod in, with its namespace, which is the pod's from now on.
func (p *pods) enrol(have *pod, ns *netns.NS) bool {
	w := have.workload
	preMesh := p.countPreMesh(w, ns)
	e, err := p.agent.datapath.Enroll(w, ns)
	if err != nil {
		p.failed(have, err)
		return false
	}
	p.set(have, nodeapi.PodEnrolled, "", e, preMesh)
	p.listen(w, e)
	p.agent.log.Info("pod joined the mesh", "pod", e.Name, "identity", w.Identity, "connections opened before", preMesh)
	return true
}

// countPreMesh counts the connections that were opened before the pod is
// enrolled. Those that an agent before this one carries are none of them, and
// cannot be told from them: its count stands.
func (p *pods) countPreMesh(w *mesh.Workload, ns *netns.NS) uint32 {
	if n, ok := p.inherited[w.UID]; ok {
		delete(p.inherited, w.UID)
		return n
	}
	n, err := ns.Established()
	if err != nil {
		p.agent.log.Warn("cannot count the connections opened before", "pod", w.Namespace+"/"+w.Name, "err", err)
	}
	return uint32(n)
}

func (p *pods) failed(have *pod, err error) {
	if have.reason != err.Error() {
		p.agent.log.Warn("pod is not enrolled yet", "pod", have.workload.Namespace+"/"+have.workload.Name, "cause", err)
	}
	p.set(have, nodeapi.PodFailed, err.Error(), nil, 0)
}

func (p *pods) set(have *pod, state, reason string, e *redirect.Pod, preMesh uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if have.state != state {
		have.since = time.Now()
	}
	have.state, have.reason, have.enrolled, have.preMesh = state, reason, e, preMesh
	if e != nil {
		p.byCookie[e.Cookie()] = have
	}
}

// certified reports whether there is a certificate to serve the identity with.
func (p *pods) certified(id mesh.Identity) bool {
	_, err := p.agent.certs.ServerConfig(id)
	return err == nil
}

// repair puts right what somebody detached or deleted.
func (p *pods) repair() {
	if p.closing.Load() {
		return // listeners that are closed are to be missing
	}
	repaired, err := p.agent.datapath.Repair()
	for _, what := range repaired {
		p.agent.log.Warn("repaired: somebody else changed it", "what", what)
	}
	p.counts.repaired.Add(uint64(len(repaired)))
	if err != nil {
		p.agent.log.Error("what was changed by somebody else cannot be repaired", "err", err)
	}
}
