// Package balance chooses the endpoint of a request: of two picked at random,
// the one with the lower latency to expect (power of two choices), among those
// that are not ejected. It is pure but for its randomness: no clock, no
// goroutine, no I/O.
package balance

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/mesh"
)

// latencyDecay is as in Finagle and Linkerd. An endpoint that nothing is known
// of is as good as any: it is expected to have leastLatency.
const latencyDecay = 10 * time.Second

// Endpoint is an endpoint with its load and health. It is immutable but for
// those.
type Endpoint struct {
	mesh.Endpoint
	meter   *PeakEWMA
	outlier *Outlier
}

// Cost is the latency to expect of the endpoint now, in nanoseconds, of one
// more request and those in flight.
func (e *Endpoint) Cost(now time.Duration) int64 { return e.meter.Cost(now) }

// In reports whether the endpoint is not ejected.
func (e *Endpoint) In() bool { return e.outlier.In() }

// Away reports whether it is ejected because it cannot be reached.
func (e *Endpoint) Away() bool { return e.outlier.gate.Load() == away }

// Balancer holds the endpoints of one service port. All methods are safe for
// concurrent use.
type Balancer struct {
	ejector Ejector

	mu    sync.Mutex
	known map[netip.AddrPort]*Endpoint // ready or not, of either family

	ready atomic.Pointer[tiers]
}

// tiers are the endpoints that are picked from: far ones only while none of the
// near can be had.
type tiers struct{ near, far []*Endpoint }

// New returns a Balancer without endpoints.
func New() *Balancer {
	b := new(Balancer)
	b.ready.Store(new(tiers))
	return b
}

// SetPolicy says when endpoints go that answer with failures.
func (b *Balancer) SetPolicy(p EjectPolicy) error { return b.ejector.Set(p) }

// Update replaces the endpoints. One that was there before keeps its load and
// health, as long as it is the same pod: an address can change hands. Ready
// endpoints of the client's address family (v4, or IPv6 if false) are picked
// from; those of the other family only while there are none. far are endpoints
// for when no near one can be had.
func (b *Balancer) Update(now time.Duration, near, far []mesh.Endpoint, v4 bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	known := make(map[netip.AddrPort]*Endpoint, len(near)+len(far))
	var preferred, others tiers
	add := func(e mesh.Endpoint, preferred, others *[]*Endpoint) {
		if _, duplicate := known[e.Addr]; duplicate {
			return
		}
		is := b.carryOver(now, e)
		known[e.Addr] = is
		switch {
		case !e.Ready:
		case e.Addr.Addr().Unmap().Is4() == v4:
			*preferred = append(*preferred, is)
		default:
			*others = append(*others, is)
		}
	}
	for _, e := range near {
		add(e, &preferred.near, &others.near)
	}
	for _, e := range far {
		add(e, &preferred.far, &others.far)
	}
	for addr, was := range b.known {
		if is := known[addr]; is == nil || is.outlier != was.outlier {
			was.outlier.Forget()
		}
	}
	b.known = known
	if len(preferred.near)+len(preferred.far) == 0 {
		preferred = others
	}
	b.ready.Store(&preferred)
}

// carryOver makes the Endpoint of what the service says now, with the load and
// health it had before. Who was not ready is to be trusted again when it is.
func (b *Balancer) carryOver(now time.Duration, endpoint mesh.Endpoint) *Endpoint {
	old := b.known[endpoint.Addr]
	switch {
	case old == nil, uid(old.Workload) != uid(endpoint.Workload):
		return &Endpoint{Endpoint: endpoint, meter: NewPeakEWMA(leastLatency, latencyDecay, now), outlier: b.ejector.Outlier()}
	case old.Ready != endpoint.Ready:
		return &Endpoint{Endpoint: endpoint, meter: old.meter, outlier: b.ejector.Outlier()}
	case old.Same(endpoint):
		return old
	}
	return &Endpoint{Endpoint: endpoint, meter: old.meter, outlier: old.outlier}
}

func uid(w *mesh.Workload) string {
	if w == nil {
		return ""
	}
	return w.UID
}

// Len is the number of endpoints that Pick chooses from, in or out.
func (b *Balancer) Len() int {
	t := b.ready.Load()
	return len(t.near) + len(t.far)
}

// Out is the number of endpoints that are ejected.
func (b *Balancer) Out() int { return b.ejector.Out() }

// Ready are the endpoints that Pick chooses from, in or out.
func (b *Balancer) Ready() []*Endpoint {
	t := b.ready.Load()
	return slices.Concat(t.near, t.far)
}

// Pick chooses an endpoint, none of exclude, and counts a request to it, until
// Done. Ejected ones are chosen from only where there is no other. It reports
// false if no endpoint is left.
func (b *Balancer) Pick(now time.Duration, exclude ...netip.AddrPort) (Ticket, bool) {
	t := b.ready.Load()
	if b.ejector.Out() == 0 && len(exclude) == 0 && len(t.near) > 0 {
		return cheaper(now, two(t.near)).begin(now, false), true
	}
	for _, list := range [...][]*Endpoint{t.near, t.far} {
		for {
			e := cheaper(now, sample(list, now, true, exclude))
			if e == nil {
				break
			}
			if ok, trial := e.outlier.Begin(now); ok {
				return e.begin(now, trial), true
			} // else another has begun the trial: it is out now
		}
	}
	for _, list := range [...][]*Endpoint{t.near, t.far} {
		if e := cheaper(now, sample(list, now, false, exclude)); e != nil {
			return e.begin(now, false), true
		}
	}
	return Ticket{}, false
}

// PickAt is Pick for the endpoint at addr, ejected or not. It reports false if
// there is none that is ready.
func (b *Balancer) PickAt(now time.Duration, addr netip.AddrPort) (Ticket, bool) {
	if e := b.at(addr); e != nil {
		return e.begin(now, false), true
	}
	return Ticket{}, false
}

// pair is two endpoints in random order, so that the choice between equals is
// random too. The second or both are nil where there are not so many.
type pair [2]*Endpoint

// two draws two of list, which has at least one.
func two(list []*Endpoint) pair {
	n := len(list)
	i := rand.IntN(n)
	if n == 1 {
		return pair{list[i]}
	}
	j := rand.IntN(n - 1)
	if j >= i {
		j++
	}
	return pair{list[i], list[j]}
}

// sample draws two of those in list that are not in exclude and, if asked for,
// not ejected.
func sample(list []*Endpoint, now time.Duration, in bool, exclude []netip.AddrPort) (p pair) {
	n := 0
	for _, e := range list {
		if in && !e.outlier.Admits(now) || slices.Contains(exclude, e.Addr) {
			continue
		}
		n++ // each of n is in the pair with the same probability: a reservoir
		switch i := rand.IntN(n); {
		case n <= 2:
			p[n-1] = p[i]
			p[i] = e
		case i < 2:
			p[i] = e
		}
	}
	return p
}

func cheaper(now time.Duration, p pair) *Endpoint {
	if p[1] != nil && p[1].Cost(now) < p[0].Cost(now) {
		return p[1]
	}
	return p[0]
}

// begin counts a request to e.
func (e *Endpoint) begin(now time.Duration, trial bool) Ticket {
	e.meter.Begin(now)
	return Ticket{Endpoint: e, Began: now, trial: trial}
}

// Done ends a request that Pick counted. It is called exactly once for each,
// also after the endpoint has been removed. now is when the outcome was known.
func (b *Balancer) Done(t Ticket, now time.Duration, o Outcome) Change {
	t.Endpoint.meter.End(now, o.Latency)
	return t.Endpoint.outlier.Report(Report{
		Now: now, Began: t.Began, Trial: t.trial, Result: o.Result,
		Endpoints: b.Len(), Random: rand.Uint64(),
	})
}

// Leave ejects the endpoint at addr, which cannot be reached, until Return.
func (b *Balancer) Leave(now time.Duration, addr netip.AddrPort) Change {
	if e := b.at(addr); e != nil {
		return e.outlier.Report(Report{Now: now, Result: Unreachable, Endpoints: b.Len()})
	}
	return Unchanged
}

// Return lets the endpoint at addr in again, after Leave or an outcome that said
// the same.
func (b *Balancer) Return(now time.Duration, addr netip.AddrPort) Change {
	if e := b.at(addr); e != nil {
		return e.outlier.Return(now)
	}
	return Unchanged
}

// Away returns the endpoint at addr if it is ejected because it cannot be
// reached, nil otherwise.
func (b *Balancer) Away(addr netip.AddrPort) *Endpoint {
	if e := b.at(addr); e != nil && e.Away() {
		return e
	}
	return nil
}

// at is the endpoint at addr that Pick chooses from, nil if there is none.
func (b *Balancer) at(addr netip.AddrPort) *Endpoint {
	t := b.ready.Load()
	for _, list := range [...][]*Endpoint{t.near, t.far} {
		for _, e := range list {
			if e.Addr == addr {
				return e
			}
		}
	}
	return nil
}
