package observed

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/observe"
	"github.com/underlane/underlane/pkg/redirect"
)

// follow watches the pods that the state says, those that are looked at for a moment, and
// those that have kernel paths, and no others. If deep is set, it also looks whether those
// that did not change are where they were.
func (w *Watch) follow(kernel Kernel, watcher *observe.Watcher, deep bool) {
	view := w.State.View()
	if !view.Synced() {
		if w.status.Load() == nil {
			w.status.Store(&Status{})
		}
		return
	}
	var paths map[string]uint64
	if w.Paths != nil {
		paths = w.Paths()
	}
	wanted := make(map[string]*mesh.Workload)
	scopes := make(map[string]redirect.Scope)
	for _, local := range view.Local() {
		switch {
		case local.HostNetwork || len(local.Addrs) == 0:
		case local.Observed || !local.Meshed && w.looksAt(local):
			wanted[local.UID], scopes[local.UID] = local, redirect.All
		case paths[local.UID] != 0:
			wanted[local.UID], scopes[local.UID] = local, redirect.Paths
		}
	}
	for uid, p := range w.pods {
		if wanted[uid] == nil || scopes[uid] != p.scope || p.scope == redirect.Paths && paths[uid] != p.cookie {
			w.leave(kernel, watcher, uid, p)
		}
	}
	status := Status{Counts: watcher.Counts()}
	for uid, local := range wanted {
		have, scope := w.pods[uid], scopes[uid]
		if scope == redirect.All {
			status.Wanted++
		}
		if have != nil {
			moved := !slices.Equal(have.workload.Addrs, local.Addrs)
			if have.workload = local; !deep && !moved || scope == redirect.Paths {
				continue
			}
		}
		cookie, err := w.find(local, scope, paths)
		if err != nil {
			status.Err = err
			continue // it starts, or ends
		}
		if have != nil && have.cookie == cookie {
			continue
		}
		if have != nil { // it has a new sandbox
			w.leave(kernel, watcher, uid, have)
		}
		if err := kernel.Observe(cookie, scope); err != nil {
			if before := w.status.Load(); before == nil || before.Err == nil || before.Err.Error() != err.Error() {
				w.Log.Warn("pods cannot be observed", "cause", err)
			}
			status.Err = err
			continue
		}
		p := &pod{workload: local, cookie: cookie, scope: scope}
		w.pods[uid], w.cookie[cookie] = p, p
		w.say("pod is observed", p)
	}
	for _, p := range w.pods {
		if p.scope == redirect.All {
			status.Pods++
		} else {
			status.Paths++
		}
	}
	w.publish()
	w.status.Store(&status)
	w.begun(cmp.Or(status.Err, ErrNone))
}

// find returns the cookie of a pod's network namespace.
func (w *Watch) find(local *mesh.Workload, scope redirect.Scope, paths map[string]uint64) (uint64, error) {
	if scope == redirect.Paths {
		return paths[local.UID], nil
	}
	ns, err := w.Finder.Find(local.UID, local.Addrs)
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	return ns.Cookie(), nil
}

func (w *Watch) leave(kernel Kernel, watcher *observe.Watcher, uid string, p *pod) {
	kernel.Leave(p.cookie)
	watcher.Leave(p.cookie)
	delete(w.pods, uid)
	delete(w.cookie, p.cookie)
	w.say("pod is not observed any more", p)
}

// say logs what becomes of a pod. Kernel paths come and go.
func (w *Watch) say(what string, p *pod) {
	if p.scope == redirect.All {
		w.Log.Info(what, "pod", p.workload.Namespace+"/"+p.workload.Name)
	} else {
		w.Log.Debug(what, "pod", p.workload.Namespace+"/"+p.workload.Name, "connections", "kernel path")
	}
}

// watches reports whether an address is that of a pod all of whose connections are watched.
func (w *Watch) watches(addr netip.Addr) bool { return w.watched.Load().addrs[addr] }
