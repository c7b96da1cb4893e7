// Package balance chooses the endpoint of a request. It picks two random endpoints
// that are not ejected, and takes the one with the lower expected latency (power of
// two choices). Apart from its randomness it is pure: no clock, no goroutine, no I/O.
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

// latencyDecay has the value that Finagle and Linkerd use. A new endpoint starts with
// leastLatency, so that it is picked like the others.
const latencyDecay = 10 * time.Second

// Endpoint is an endpoint with its load and health. Its other fields are immutable.
type Endpoint struct {
	mesh.Endpoint
	meter   *PeakEWMA
	outlier *Outlier
}

// Cost is the expected latency of the endpoint at the time now, in nanoseconds,
// multiplied by the requests in flight and one more.
func (e *Endpoint) Cost(now time.Duration) int64 { return e.meter.Cost(now) }

// Admitted reports whether the endpoint is neither ejected nor on trial.
func (e *Endpoint) Admitted() bool { return e.outlier.Admitted() }

// Unreachable reports whether the endpoint is ejected because it cannot be reached.
func (e *Endpoint) Unreachable() bool { return e.outlier.gate.Load() == never }

// Balancer holds the endpoints of one service port. All methods are safe for
// concurrent use.
type Balancer struct {
	ejector Ejector

	mu    sync.Mutex
	known map[netip.AddrPort]*Endpoint // ready or not, of both address families
	left  []*Endpoint                  // those that were removed last: see PickAt

	ready atomic.Pointer[tiers]
}

// tiers are the endpoints that Pick chooses from. A far endpoint is chosen only while
// no near endpoint is available.
type tiers struct{ near, far []*Endpoint }

// New returns a Balancer without endpoints.
func New() *Balancer {
	b := new(Balancer)
	b.ready.Store(new(tiers))
	return b
}

// SetPolicy sets when an endpoint is ejected for failures.
func (b *Balancer) SetPolicy(p EjectPolicy) error { return b.ejector.Set(p) }

// Update replaces the endpoints. An endpoint that was there before keeps its load and
// health if it is still the same pod: another pod can get the address. Pick chooses
// from the ready endpoints of the client's address family (IPv4 if v4, else IPv6), and
// from the other family only if that one has none. far are the endpoints that are used
// while no near endpoint is available.
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
		is := known[addr]
		if is == nil || is.outlier != was.outlier {
			was.outlier.Forget()
		}
		if is == nil || uid(is.Workload) != uid(was.Workload) {
			b.left = append(b.left, was)
		}
	}
	b.left = slices.Delete(b.left, 0, max(0, len(b.left)-leftAtMost))
	b.known = known
	if len(preferred.near)+len(preferred.far) == 0 {
		preferred = others
	}
	b.ready.Store(&preferred)
}

// carryOver makes an Endpoint from the service's current data, with its previous load
// and health. An endpoint that becomes ready again starts with a clean health.
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

// Len is the number of endpoints that Pick chooses from, ejected ones included.
func (b *Balancer) Len() int {
	t := b.ready.Load()
	return len(t.near) + len(t.far)
}

// Ejected is the number of endpoints that are ejected or on trial.
func (b *Balancer) Ejected() int { return b.ejector.Ejected() }

// Ready returns the endpoints that Pick chooses from, ejected ones included.
func (b *Balancer) Ready() []*Endpoint {
	t := b.ready.Load()
	return slices.Concat(t.near, t.far)
}

// Pick chooses an endpoint that is not in exclude, and counts a request to it until
// Done. It chooses an ejected endpoint only if there is no other. It returns false if
// no endpoint is left.
func (b *Balancer) Pick(now time.Duration, exclude ...netip.AddrPort) (Ticket, bool) {
	t := b.ready.Load()
	if b.ejector.Ejected() == 0 && len(exclude) == 0 && len(t.near) > 0 {
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
			} // otherwise another request has begun the trial, and the endpoint may not be picked
		}
	}
	for _, list := range [...][]*Endpoint{t.near, t.far} {
		if e := cheaper(now, sample(list, now, false, exclude)); e != nil {
			return e.begin(now, false), true
		}
	}
	return Ticket{}, false
}

// leftAtMost bounds the endpoints that are remembered after they were removed.
const leftAtMost = 64

// PickAt is Pick for the endpoint at addr, to which the caller has a connection: ejected or
// not, ready or not, and also if it was removed lately. A pod that is being deleted is no
// endpoint of its service any more, and its open connections go on. PickAt returns false if
// it does not know the address.
func (b *Balancer) PickAt(now time.Duration, addr netip.AddrPort) (Ticket, bool) {
	e := b.at(addr)
	if e == nil {
		e = b.notReady(addr)
	}
	if e == nil {
		return Ticket{}, false
	}
	return e.begin(now, false), true
}

// notReady returns the endpoint at addr that is not ready, or was removed lately, or nil.
func (b *Balancer) notReady(addr netip.AddrPort) *Endpoint {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.known[addr]; e != nil {
		return e
	}
	for _, e := range slices.Backward(b.left) {
		if e.Addr == addr {
			return e
		}
	}
	return nil
}

// pair is two endpoints in random order, so that the choice between equal ones is
// random too. With fewer endpoints the second one or both are nil.
type pair [2]*Endpoint

// two draws two endpoints from list, which has at least one.
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

// sample draws two endpoints from list that are not in exclude. With in set it draws
// only endpoints that may be picked although others are ejected.
func sample(list []*Endpoint, now time.Duration, in bool, exclude []netip.AddrPort) (p pair) {
	n := 0
	for _, e := range list {
		if in && !e.outlier.MayPick(now) || slices.Contains(exclude, e.Addr) {
			continue
		}
		n++ // reservoir sampling: each of the n is in the pair with the same probability
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

// Done ends a request that Pick counted. Call it exactly once for each request, also
// if the endpoint was removed meanwhile. now is the time when the outcome was known.
func (b *Balancer) Done(t Ticket, now time.Duration, o Outcome) Change {
	t.Endpoint.meter.End(now, o.Latency)
	return t.Endpoint.outlier.Report(Report{
		Now: now, Began: t.Began, Trial: t.trial, Result: o.Result,
		Endpoints: b.Len(), Random: rand.Uint64(),
	})
}

// Eject ejects the endpoint at addr, because it cannot be reached, until Readmit.
func (b *Balancer) Eject(now time.Duration, addr netip.AddrPort) Change {
	if e := b.at(addr); e != nil {
		return e.outlier.Report(Report{Now: now, Result: Unreachable, Endpoints: b.Len()})
	}
	return Unchanged
}

// Readmit readmits the endpoint at addr after Eject, or after an outcome with the result
// Unreachable.
func (b *Balancer) Readmit(now time.Duration, addr netip.AddrPort) Change {
	if e := b.at(addr); e != nil {
		return e.outlier.Readmit(now)
	}
	return Unchanged
}

// EjectedUnreachable returns the endpoint at addr if it is ejected because it cannot be
// reached, nil otherwise.
func (b *Balancer) EjectedUnreachable(addr netip.AddrPort) *Endpoint {
	if e := b.at(addr); e != nil && e.Unreachable() {
		return e
	}
	return nil
}

// at returns the endpoint at addr among those that Pick chooses from, or nil.
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
