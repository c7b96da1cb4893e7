package destination

import (
	"errors"
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/route"
	"github.com/underlane/underlane/pkg/tap"
)

// Leaving is what EgressNetworks look at of a request under way from a pod of this node. The
// zero Leaving is that of a request of which nothing was noted, because no EgressNetwork was
// about its destination when it began.
type Leaving struct {
	By    *Egress        // that has let it out by its names; nil: none
	Asked *route.Request // as its client has sent it; nil: its head is not kept
	// ByService: a Service's own routes, or the request itself, have chosen its Service, so that
	// its names do not count.
	ByService bool
	To        tap.Peer // the endpoint
}

// headGrace is for how long a request whose head is not kept goes on after rules on requests
// have come. Most end by themselves in that time.
const headGrace = 900 * time.Millisecond

var errNoHeadOutside = errors.New("the EgressNetwork's routes look at requests now, and the head of this one is not kept")

// Leaves reports whether an EgressNetwork is about the target. It waits for nothing.
func (t *Outbound) Leaves() bool { return t.peek().egress != nil }

// peek is look that does not wait for the controller, and leaves it to look to ask that.
func (t *Outbound) peek() *knowledge {
	was, v := t.known.Load(), t.directory.State.View()
	if was.version == v.Version() {
		return was
	}
	other := &Outbound{directory: t.directory, dst: t.dst}
	other.known.Store(was)
	now := lookAgain(other, func(func()) {})
	if v.Answered(t.dst.Addr()) && now.version == v.Version() {
		t.known.CompareAndSwap(was, now)
	}
	return now
}

// Leaving judges a request under way. by is what has let it out: the new Leaving.By. The error,
// a *mesh.ReasonError, says why it is not allowed any more. What filters and authorizers would
// do with it counts for new requests only.
func (t *Outbound) Leaving(u Leaving) (by *Egress, err error) {
	k := t.peek()
	if u.ByService || k.routing != nil && k.routing.Egress == nil {
		return u.By, t.leavesByService(k, u.To)
	}
	e := k.egress
	switch {
	case e == nil || u.By != nil && e.decidesAs(u.By):
		return e, nil
	case !e.requests:
		_, err = e.opaque(Said{}, 0)
		return e, err
	case !e.Network.Deny:
		return e, nil
	case u.Asked == nil && time.Since(e.began) < headGrace:
		return u.By, nil
	case u.Asked == nil:
		return e, mesh.Fail(mesh.ReasonEgressDenied, errNoHeadOutside)
	}
	if _, verdict := e.http.Match(u.Asked); verdict != route.Matched {
		return e, e.denied
	}
	return e, nil
}

// leavesByService judges a request to an endpoint of a Service as admitOutside does.
func (t *Outbound) leavesByService(k *knowledge, to tap.Peer) error {
	d, v := t.directory, t.directory.State.View()
	if to.Workload != nil || !to.Addr.IsValid() {
		return nil
	}
	n := v.Egress(k.local.Namespace, to.Addr.Addr())
	if n == nil {
		return nil
	}
	_, err := d.egress(v, n, to.Addr.Port(), k.local, to.Addr.Addr().Is4()).opaque(Said{}, 0)
	return err
}

// Copied returns why a copy of a request, to the endpoint at of a backend, is not allowed, or nil.
// by is the Egress whose route has asked for the copy; nil: the route is of a Service. It waits
// for nothing.
func (t *Outbound) Copied(backend *Backend, at tap.Peer, by *Egress) error {
	if !t.directory.State.View().HasEgress() || backend.Service != nil && isAPIServer(backend.Service) {
		return nil
	}
	k := t.peek()
	if by != nil && k.egress != nil && k.egress.decidesAs(by) {
		return nil
	}
	return t.leavesByService(k, at)
}

// decidesAs reports whether both decide alike.
func (e *Egress) decidesAs(other *Egress) bool {
	return e == other || e.Network == other.Network && slices.Equal(e.routes, other.routes)
}

// LooksAtRequests reports whether the head of a request decides. e may be nil.
func (e *Egress) LooksAtRequests() bool { return e != nil && e.requests }
