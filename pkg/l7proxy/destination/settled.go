package destination

import (
	"errors"
	"net/netip"

	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
)

// Settled is the endpoint that all connections of a client to a destination go to, in a pod
// of the same node, while nothing about them is left for a proxy to decide: they can take
// the kernel path.
type Settled struct {
	Server   *mesh.Workload
	Endpoint netip.AddrPort
	// Others: the destination has other endpoints, which the proxy tries if this one cannot
	// be reached.
	Others bool
}

// Why connections to a destination are not settled.
var (
	errNotKnown  = errors.New("the controller has not said whose the address is")
	errRuled     = errors.New("routes apply to the destination or to the client")
	errBalanced  = errors.New("connections may go to several endpoints, or there is none, or it is ejected")
	errAccrual   = errors.New("the destination's failures are counted")
	errFamily    = errors.New("the endpoint is of another address family")
	errNotHere   = errors.New("the endpoint is not a pod of this node, or is not reached directly")
	errAccounted = errors.New("policies or limits of the endpoint count what comes")
	errNotOpaque = errors.New("the port is not opaque")
	errReported  = errors.New("requests are logged or traced")
)

// Settled returns where connections of local, a pod of this node, to dst go. The error says
// why that is not settled. It waits for nothing. requests: also those to ports that are not
// opaque, if nothing is asked of requests.
func (d *Directory) Settled(local *mesh.Workload, dst netip.AddrPort, requests bool) (Settled, error) {
	v := d.State.View()
	if !v.Answered(dst.Addr()) {
		return Settled{}, errNotKnown
	}
	t := &Outbound{directory: d, dst: dst}
	t.known.Store(&knowledge{local: local})
	k := t.lookAside(func(func()) {})
	switch {
	case !requests && !t.Opaque():
		return Settled{}, errNotOpaque
	case k.egress != nil || k.routing != nil || k.local.Settings.Ingress:
		return Settled{}, errRuled
	}
	opaque := t.Opaque()
	ep, others, err := k.settled(dst, opaque)
	if err != nil {
		return Settled{}, err
	}
	w := ep.Workload
	switch {
	case ep.Addr.Addr().Is4() != dst.Addr().Is4():
		return Settled{}, errFamily
	case d.mode(k.local, &ep) != upstream.SameNode:
		return Settled{}, errNotHere
	case w.Authorized || w.Limited || ruled(w):
		return Settled{}, errAccounted
	case !opaque && (reported(k.local) || reported(w)):
		return Settled{}, errReported
	}
	return Settled{w, ep.Addr, others}, d.MayConnect(k.local, w, ep.Addr, requests)
}

// reported reports whether the proxy is to log or trace the requests of a pod.
func reported(w *mesh.Workload) bool {
	return w.Settings.AccessLog != mesh.AccessLogNone || w.Settings.TraceSampling != nil && !w.Settings.TraceSampling.Off
}

// settled returns the endpoint that Pick chooses for each connection to dst, and whether there
// are others.
func (k *knowledge) settled(dst netip.AddrPort, opaque bool) (ep mesh.Endpoint, others bool, err error) {
	svc := k.Backend.Service
	if svc == nil {
		return mesh.Endpoint{Addr: dst, Workload: k.pod, Ready: true}, false, nil
	}
	if k.Port == nil {
		return ep, false, errBalanced
	}
	others = k.Balancer.Len() > 1
	if svc.FailureAccrual != nil && (others || !opaque) { // responses are counted of one endpoint, too
		return ep, others, errAccrual
	}
	chosen, ok := k.Balancer.Settled(affine(k.local, dst.Addr()), svc.SessionAffinity)
	if !ok {
		return ep, others, errBalanced
	}
	return chosen.Endpoint, others, nil
}

// MayConnect returns why client may not be connected to an address of server by the kernel
// path, or nil. Both are pods of this node. requests is that of Settled. Policies that look at
// requests, and limits, allow no connection that may carry some.
func (d *admission) MayConnect(client, server *mesh.Workload, to netip.AddrPort, requests bool) error {
	if requests && (server.Limited || ruled(server)) && !mesh.InRanges(server.Settings.OpaquePorts, to.Port()) {
		return errAccounted
	}
	return d.judge(server, to.Port(), PodAddress(client, to.Addr(), netip.Addr{}), client.Identity, false)
}
