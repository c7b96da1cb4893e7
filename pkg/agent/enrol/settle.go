package enrol

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/agent/nodeapi"
	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/mtls"
	"github.com/underlane/underlane/pkg/redirect/netns"
)

// settle enrols one wanted pod, or puts its changes into force. It returns false if that
// is not possible yet: the caller must try again. The caller holds busy.
func (r *enroller) settle(w *mesh.Workload, deep bool) bool {
	have, changed := r.note(w)
	var ns *netns.NS // nil: not found yet
	if e := have.enrolled; e != nil {
		if changed || deep {
			ns = r.moved(have, w)
		}
		if ns == nil {
			if changed {
				if err := r.datapath.Update(have.workload); err != nil {
					r.Log.Error("settings of a pod", "err", err)
				}
			}
			return true
		}
		r.Log.Info("pod has a new sandbox", "pod", e.Name)
		r.retire(have)
	}
	if !Certified(r.Certs, w.Identity) && time.Since(have.since) < certificateWait {
		r.shut(have, ns)
		r.set(have, nodeapi.PodPending, "waiting for its certificate", nil, 0)
		return false
	}
	if ns == nil {
		var err error
		if ns, err = r.Finder.Find(w.UID, have.workload.Addrs); err != nil {
			r.failed(have, err)
			return false
		}
	}
	return r.enrol(have, ns)
}

// shut closes a strict pod that has to wait for its enrolment. Otherwise, and if shut
// fails, the pod is open to every client until then. shut takes ownership of ns; if ns
// is nil, it looks for the namespace.
func (r *enroller) shut(have *pod, ns *netns.NS) {
	w := have.workload
	if have.shut || !w.Closed() {
		closeNS(ns)
		if have.shut {
			_ = r.datapath.Update(w) // the pod may not be strict any more
		}
		return
	}
	if ns == nil {
		var err error
		if ns, err = r.Finder.Find(w.UID, w.Addrs); err != nil {
			return // reconcile tries again
		}
	}
	err := r.datapath.Shut(w, ns)
	if err != nil {
		r.Log.Warn("a strict pod is open until it is enrolled", "pod", w.Namespace+"/"+w.Name, "cause", err)
	}
	have.shut = err == nil
}

func closeNS(ns *netns.NS) {
	if ns != nil {
		_ = ns.Close()
	}
}

// note records that w is wanted. changed reports whether the state has changed it.
func (r *enroller) note(w *mesh.Workload) (have *pod, changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	have = r.pods[w.UID]
	if have == nil {
		have = &pod{state: nodeapi.PodPending, since: time.Now()}
		r.pods[w.UID] = have
	}
	if have.source == w {
		return have, false
	}
	have.source = w
	if have.enrolled != nil && len(w.Addrs) == 0 {
		w = withAddrs(w, have.enrolled.Addrs())
	}
	r.setWorkload(have, w)
	return have, true
}

// withAddrs returns a copy of w with other addresses.
func withAddrs(w *mesh.Workload, addrs []netip.Addr) *mesh.Workload {
	with := *w
	with.Addrs = addrs
	return &with
}

// moved returns the namespace that has the pod's addresses now, or nil if that is the
// enrolled one. If no namespace has them, the pod keeps the addresses that it was
// enrolled with: its sandbox is being removed, or the state does not have the addresses
// of the new sandbox yet.
func (r *enroller) moved(have *pod, w *mesh.Workload) *netns.NS {
	e := have.enrolled
	if len(w.Addrs) == 0 {
		return nil
	}
	owns, err := e.Owns(w.Addrs)
	if err != nil {
		r.Log.Warn("cannot look into a pod's namespace", "pod", e.Name, "err", err)
	}
	if owns {
		return nil
	}
	ns, err := r.Finder.Find(w.UID, w.Addrs)
	if err == nil && ns.Cookie() != e.Cookie() {
		return ns
	}
	closeNS(ns)
	r.mu.Lock()
	r.setWorkload(have, withAddrs(w, e.Addrs()))
	r.mu.Unlock()
	return nil
}

// enrol enrols a pod with its namespace. It takes ownership of ns.
func (r *enroller) enrol(have *pod, ns *netns.NS) bool {
	w := have.workload
	preMesh := r.countPreMesh(w, ns)
	e, err := r.datapath.Enroll(w, ns)
	if err != nil {
		r.failed(have, err)
		return false
	}
	r.Carrier.Carry(w, e)
	r.set(have, nodeapi.PodEnrolled, "", e, preMesh)
	r.Log.Info("pod joined the mesh", "pod", e.Name, "identity", w.Identity, "connections opened before", preMesh)
	return true
}

// countPreMesh counts the connections that were opened before the pod is enrolled. If a
// previous agent has enrolled the pod, its count is used: the connections that it
// carries cannot be distinguished from older ones.
func (r *enroller) countPreMesh(w *mesh.Workload, ns *netns.NS) uint32 {
	if n, ok := r.inherited[w.UID]; ok {
		delete(r.inherited, w.UID)
		return n
	}
	n, err := ns.Established()
	if err != nil {
		r.Log.Warn("cannot count the connections opened before", "pod", w.Namespace+"/"+w.Name, "err", err)
	}
	return uint32(n)
}

func (r *enroller) failed(have *pod, err error) {
	if have.reason != err.Error() {
		r.Log.Warn("pod is not enrolled yet", "pod", have.workload.Namespace+"/"+have.workload.Name, "cause", err)
	}
	r.set(have, nodeapi.PodFailed, err.Error(), nil, 0)
}

// Certified reports whether certs has a valid certificate of the identity.
func Certified(certs *mtls.Manager, id mesh.Identity) bool {
	_, err := certs.ServerConfig(id)
	return err == nil
}

// repair restores what another program has detached or deleted.
func (r *Reconciler) repair() {
	if r.Carrier.Closing() {
		return // the listeners are missing on purpose
	}
	r.repairedAt = time.Now()
	repaired, err := r.datapath.Repair()
	if len(repaired) > 0 {
		level := slog.LevelDebug
		if r.repairedAt.Sub(r.repairLogged) >= repairQuiet {
			level, r.repairLogged = slog.LevelWarn, r.repairedAt
		}
		for _, what := range repaired {
			r.Log.Log(context.Background(), level, "repaired: another program had changed it", "what", what)
		}
	}
	r.repaired.Add(uint64(len(repaired)))
	if err != nil {
		r.Log.Error("what was changed by somebody else cannot be repaired", "err", err)
	}
}
