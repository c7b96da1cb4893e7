package balance

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"time"
)

// PickFor is Pick with session affinity: a client gets the same endpoint as long as
// that endpoint exists, on every agent. A change of the endpoints moves only the
// clients of the endpoints that were removed. (Rendezvous hashing: Thaler and
// Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998.)
func (b *Balancer) PickFor(now time.Duration, client netip.Addr, exclude ...netip.AddrPort) (Ticket, bool) {
	t := b.ready.Load()
	for _, in := range [...]bool{true, false} { // ejected endpoints only if there is no other
		for _, list := range [...][]*Endpoint{t.near, t.far} {
			for {
				e := heaviest(list, client, now, in, exclude)
				if e == nil {
					break
				}
				ok, trial := true, false
				if in {
					ok, trial = e.outlier.Begin(now)
				}
				if ok {
					return e.begin(now, trial), true
				}
			}
		}
	}
	return Ticket{}, false
}

// heaviest returns the endpoint of list with the highest weight for the client.
func heaviest(list []*Endpoint, client netip.Addr, now time.Duration, in bool, exclude []netip.AddrPort) (chosen *Endpoint) {
	var best uint64
	for _, e := range list {
		if in && !e.outlier.MayPick(now) || slices.Contains(exclude, e.Addr) {
			continue
		}
		if w := weight(client, e.Addr); chosen == nil || w > best {
			chosen, best = e, w
		}
	}
	return chosen
}

// weight is the rendezvous weight of an endpoint for a client: a hash of both.
func weight(client netip.Addr, endpoint netip.AddrPort) uint64 {
	c, e := client.As16(), endpoint.Addr().As16()
	h := mix(binary.LittleEndian.Uint64(c[:8]))
	h = mix(h ^ binary.LittleEndian.Uint64(c[8:]))
	h = mix(h ^ binary.LittleEndian.Uint64(e[:8]))
	h = mix(h ^ binary.LittleEndian.Uint64(e[8:]))
	return mix(h ^ uint64(endpoint.Port()))
}

// mix is the output function of SplitMix64 (Steele, Lea and Flood, "Fast
// Splittable Pseudorandom Number Generators", 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
