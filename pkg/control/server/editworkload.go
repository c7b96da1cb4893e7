package server

import (
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/state"
)

// removeWorkload removes a pod that is gone, or that moveWorkload does not leave where it is.
func (e *edit) removeWorkload(ch mesh.Changed[mesh.Workload]) {
	w := ch.Before
	if w == nil {
		return
	}
	e.s.pods--
	e.drop(state.WorkloadName(w.UID))
	delete(e.wares, w.UID)
	if stays(w, ch.After) {
		return
	}
	e.spans.workload(w, -1)
	editList(e.byNode, w.Node, func(all []*mesh.Workload) []*mesh.Workload {
		return slices.DeleteFunc(all, func(other *mesh.Workload) bool { return other.UID == w.UID })
	})
	for _, a := range addrsOf(w) {
		e.hold(a, func(h *holders) {
			h.pods = slices.DeleteFunc(h.pods, func(other *mesh.Workload) bool { return other.UID == w.UID })
		})
	}
}

// stays reports whether a pod is found where it was before.
func stays(old, w *mesh.Workload) bool {
	return old != nil && w != nil && old.UID == w.UID && old.Node == w.Node && old.Meshed == w.Meshed && old.HostNetwork == w.HostNetwork &&
		slices.Equal(old.Addrs, w.Addrs)
}

// addrsOf returns the addresses by which a pod is found.
func addrsOf(w *mesh.Workload) (out []netip.Addr) {
	if w.HostNetwork {
		return nil
	}
	for _, a := range w.Addrs {
		out = append(out, a.Unmap())
	}
	return out
}

func (e *edit) addWorkload(ch mesh.Changed[mesh.Workload]) {
	w := ch.After
	if w == nil {
		if ch.Before != nil {
			e.node(ch.Before.Node)
		}
		return
	}
	e.s.pods++
	if r, changed := e.store(newWorkload(w)); changed {
		if old := ch.Before; old != nil && onlyReadiness(old, w) {
			e.calm = append(e.calm, calm{r.Name, w.Node})
		} else {
			e.name(r.Name)
		}
	}
	if w.Authorized || w.Limited {
		e.wares[w.UID] = w
	}
	e.place(ch.Before, w)
	if old := ch.Before; old == nil || !alikeForNode(old, w) {
		if old != nil && old.Node != w.Node {
			e.node(old.Node)
		}
		e.node(w.Node)
	}
}

// place enters a pod by its node and its addresses.
func (e *edit) place(old, w *mesh.Workload) {
	is := func(other *mesh.Workload) bool { return other.UID == w.UID }
	if stays(old, w) {
		editList(e.byNode, w.Node, func(all []*mesh.Workload) []*mesh.Workload {
			all[slices.IndexFunc(all, is)] = w
			return all
		})
		for _, a := range addrsOf(w) {
			e.hold(a, func(h *holders) { h.pods[slices.IndexFunc(h.pods, is)] = w })
		}
		return
	}
	e.spans.workload(w, 1)
	editList(e.byNode, w.Node, func(all []*mesh.Workload) []*mesh.Workload { return append(all, w) })
	for _, a := range addrsOf(w) {
		e.hold(a, func(h *holders) { h.pods = append(h.pods, w) })
	}
}

// onlyReadiness reports whether two states of a pod differ in nothing else than whether it is
// ready.
func onlyReadiness(old, w *mesh.Workload) bool {
	return old.Ready != w.Ready && old.AlikeButReady(w)
}

// alikeForNode reports whether the agent of the node of a pod is to have the same resources as
// before: only their content is different. See Snapshot.wanted.
func alikeForNode(old, w *mesh.Workload) bool {
	return old.UID == w.UID && old.Node == w.Node && old.Namespace == w.Namespace && old.Meshed == w.Meshed &&
		old.Authorized == w.Authorized && old.Limited == w.Limited && isIngress(old) == isIngress(w)
}
