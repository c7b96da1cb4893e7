package balance

import "net/netip"

// Settled returns the endpoint that each call of Pick without exclusions chooses, or, if
// affine is set, each call of PickFor for client, as long as the endpoints and their health do
// not change. It returns false if the calls may choose several endpoints, or none, or if the
// endpoint is ejected or on trial.
func (b *Balancer) Settled(client netip.Addr, affine bool) (*Endpoint, bool) {
	t := b.ready.Load()
	list := t.near
	if len(list) == 0 {
		list = t.far
	}
	var e *Endpoint
	switch {
	case affine:
		// PickFor takes the heaviest of those that are not ejected: if the heaviest of all is
		// not ejected, it is that one.
		e = heaviest(list, client, 0, false, nil)
	case len(list) == 1:
		e = list[0]
	}
	if e == nil || !e.Admitted() {
		return nil, false
	}
	return e, true
}
