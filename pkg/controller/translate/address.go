package translate

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/underlane/underlane/pkg/controller/depend"
)

// address is an IP address, with the pods that have it by their status. Those on the host's
// network do not count.
type address struct {
	depend.Node
	pods  []*workload
	owner *workload
}

// claimAddresses indexes the addresses of a pod. again: the pod has changed.
func (x *index) claimAddresses(w *workload, addrs []netip.Addr, again bool) {
	if !again && slices.Equal(w.claims, addrs) {
		return
	}
	for _, a := range w.claims {
		at := x.address(a)
		at.pods = slices.DeleteFunc(at.pods, func(other *workload) bool { return other == w })
		x.graph.Mark(&at.Node)
	}
	for _, a := range addrs {
		at := x.address(a)
		at.pods = append(at.pods, w)
		x.graph.Mark(&at.Node)
	}
	w.claims = slices.Clone(addrs)
}

// Compute finds out which pod has the address: of several living ones the first by name, and
// only without one a pod that terminates.
func (a *address) Compute() bool {
	old := a.owner
	a.owner = nil
	for _, w := range a.pods {
		if a.owner == nil || before(w, a.owner) {
			a.owner = w
		}
	}
	return a.owner != old
}

func before(a, b *workload) bool {
	dying := func(w *workload) int { return boolInt(w.read.DeletionTimestamp != nil) }
	return cmp.Or(cmp.Compare(dying(a), dying(b)), cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name.name, b.name.name)) < 0
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// settleAddresses reports the addresses of a pod that another one has. If it terminates, they
// are removed from it.
func (w *workload) settleAddresses(p *pod, said *Result) {
	if p.workload.HostNetwork {
		return
	}
	var kept []netip.Addr
	for _, a := range p.workload.Addrs {
		at := w.tr.address(a)
		w.tr.graph.Read(&at.Node)
		switch {
		case at.owner == w:
		case p.DeletionTimestamp != nil:
			continue
		default:
			t := report{}
			t.problem("Pod", w.namespace, w.name.name, "has the address %s of pod %s/%s", a, at.owner.namespace, at.owner.name.name)
			said.Problems = append(said.Problems, t.Problems...)
		}
		kept = append(kept, a)
	}
	if len(kept) < len(p.workload.Addrs) {
		p.workload.Addrs = kept
	}
}
