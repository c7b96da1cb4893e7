package observed

import (
	"context"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/observe"
	"github.com/underlane/underlane/pkg/state"
)

// ends remembers whose the other ends of connections are, while there are events: most of a busy
// moment are of few connections, and the state is the same.
type ends struct {
	view *state.View
	list [256]end // by the ports of the connection
}

// end is the other end of a connection.
type end struct {
	flow    *observe.Opening
	peer    *mesh.Workload // nil: it is no pod
	service *mesh.Service  // that the connection's Name belongs to; nil: none
}

// end returns the other end of an event's connection. The result is valid until the next call.
func (w *Watch) end(ctx context.Context, e *event) *end {
	known, flow := &w.ends, e.request.Flow
	if view := w.State.View(); view != known.view {
		*known = ends{view: view}
	}
	slot := &known.list[int(flow.Local.Port()^flow.Remote.Port())%len(known.list)]
	if slot.flow == flow {
		return slot
	}
	remote := flow.Remote.Addr()
	w.Controller.Subscribe(remote)
	if w.queue.length.Load() < maxEvents/2 {
		w.meet(ctx, remote, e.at)
	}
	view := w.State.View()
	*slot = end{}
	slot.peer, _ = view.Workload(remote)
	slot.service, _ = view.ServiceVIP(flow.Name.Addr())
	if view == known.view && view.Answered(remote) {
		slot.flow = flow
	}
	return slot
}

// forget drops what is remembered: an old state is large.
func (k *ends) forget() { *k = ends{} }
