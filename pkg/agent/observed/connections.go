package observed

import (
	"net/netip"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/redirect"
	"github.com/underlane/underlane/pkg/redirect/netns"
)

// The kernel reports openings and ends of the connections of pods that are watched, and not in
// the mesh, as those of enrolled pods that no proxy carries (redirect.ReadEvents).

// watched are these pods. It is not changed.
type watched struct {
	cookie map[uint64]*mesh.Workload
	uid    map[string]*mesh.Workload
	addrs  map[netip.Addr]bool
}

// publish makes the pods known to other goroutines.
func (w *Watch) publish() {
	now := &watched{make(map[uint64]*mesh.Workload), make(map[string]*mesh.Workload), make(map[netip.Addr]bool)}
	for uid, p := range w.pods {
		if p.scope != redirect.All {
			continue
		}
		now.cookie[p.cookie], now.uid[uid] = p.workload, p.workload
		for _, addr := range p.workload.Addrs {
			now.addrs[addr] = true
		}
	}
	w.watched.Store(now)
}

// Reports returns the pod whose connection an event of the kernel reports. It returns nil if the
// pod is not watched, or if the events of the connection's other end count: those of the client.
func (w *Watch) Reports(e *redirect.Event) *mesh.Workload {
	now := w.watched.Load()
	if now == nil || e.Server && now.addrs[e.Remote.Addr()] {
		return nil
	}
	return now.cookie[e.NetnsCookie]
}

// Direct returns the connections of a pod that is watched, as the kernel has them. ok is false
// for other pods.
func (w *Watch) Direct(uid string) (list []netns.Connection, ok bool, err error) {
	now := w.watched.Load()
	if now == nil || now.uid[uid] == nil {
		return nil, false, nil
	}
	ns, err := w.Finder.Find(uid, now.uid[uid].Addrs)
	if err != nil {
		return nil, true, err
	}
	defer ns.Close()
	list, err = ns.Connections()
	return list, true, err
}
