package l7proxy

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/mesh"
)

// An endpoint that cannot be reached is ejected from all balancers that have
// it: its absence. No request is spent on finding out whether it is back: the
// proxy dials it now and then by itself.

// Times between the dials of an absent endpoint: they double. One that comes
// back and leaves again soon goes on where it was.
const (
	absenceFirst = time.Second
	absenceMost  = time.Minute
	// absenceLimit is after how long requests find out all the same.
	absenceLimit = time.Hour
	dialsAtOnce  = 8
)

// absences are those under way, and what is remembered of the last ones.
type absences struct {
	ctx     context.Context // done when the proxy ends
	end     context.CancelFunc
	running sync.WaitGroup
	dials   chan struct{} // a place for each under way

	mu     sync.Mutex
	byAddr map[netip.AddrPort]*absence

	ejections ejections
}

// absence is of one address, from the dials of one client pod.
type absence struct {
	addr      netip.AddrPort
	from      *mesh.Workload
	balancers []*balance.Balancer // that ejected it
	wait      time.Duration       // until the next dial
	over      time.Time           // zero: it lasts
}

// absent takes note that the endpoint of c cannot be reached, for that reason:
// all balancers eject it. already is a balancer that has.
func (p *Proxy) absent(c *Choice, why mesh.Reason, already *balance.Balancer) {
	p.leave(c.from, c.Peer.Addr, absenceFirst, already)
	w := c.Peer.Workload
	if w == nil || w.Node == c.from.Node || why != mesh.ReasonConnectTimeout && why != mesh.ReasonAgentDown {
		return
	}
	// Maybe its whole node is gone, or hangs: to notice once is to be enough.
	// Who is there after all is back in a moment.
	for addr := range p.balancers.onNode(w.Node) {
		p.leave(c.from, addr, 0, nil)
	}
}

// leave ejects an endpoint everywhere, and dials it in so long.
func (p *Proxy) leave(from *mesh.Workload, addr netip.AddrPort, wait time.Duration, already *balance.Balancer) {
	left := p.balancers.leave(addr)
	if already != nil {
		left = append(left, already)
	}
	if len(left) == 0 {
		return // its only endpoint everywhere, or known
	}
	a := &p.absences
	a.ejections.unreachable.Add(uint64(len(left)))
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ctx.Err() != nil {
		return // the proxy ends
	}
	is := a.byAddr[addr]
	switch {
	case is == nil:
		is = &absence{addr: addr, wait: wait}
		a.byAddr[addr] = is
	case is.over.IsZero():
		is.balancers = append(is.balancers, left...)
		return
	case time.Since(is.over) < is.wait:
		is.wait = nextWait(is.wait)
	default:
		is.wait = wait
	}
	is.from, is.balancers, is.over = from, left, time.Time{}
	p.Log.Debug("endpoint ejected: it cannot be reached", "endpoint", addr, "from", from.Name, "again", is.wait)
	a.running.Go(func() { p.awaitReturn(is) })
}

func nextWait(wait time.Duration) time.Duration {
	return min(max(2*wait, absenceFirst), absenceMost)
}

// awaitReturn dials an absent endpoint until it answers or is no endpoint any
// more.
func (p *Proxy) awaitReturn(a *absence) {
	began := time.Now()
	for wait := a.wait; ; wait = nextWait(wait) {
		p.absences.mu.Lock()
		a.wait = wait
		p.absences.mu.Unlock()
		pause := wait + rand.N(wait/4+1) // not all nodes at once
		select {
		case <-p.absences.ctx.Done():
			return
		case <-time.After(pause):
		}
		e := p.absences.endpoint(a)
		if e == nil {
			return
		}
		p.absences.dials <- struct{}{} // those before are bounded in time
		err := p.tryEndpoint(p.absences.ctx, a.from, e.Endpoint)
		<-p.absences.dials
		if err == nil || time.Since(began) > absenceLimit {
			p.absences.finish(a)
			p.Log.Debug("endpoint is back", "endpoint", a.addr, "away", time.Since(began), "cause", err)
			return
		}
	}
}

// endpoint is what is absent, as its service says now; nil, and the end of the
// absence, if it is not any more.
func (all *absences) endpoint(a *absence) *balance.Endpoint {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, b := range a.balancers {
		if e := b.Away(a.addr); e != nil {
			return e
		}
	}
	delete(all.byAddr, a.addr)
	return nil
}

// finish lets an absent endpoint in again.
func (all *absences) finish(a *absence) {
	all.mu.Lock()
	defer all.mu.Unlock()
	for _, b := range a.balancers {
		b.Return(balance.Now(), a.addr)
	}
	a.over, a.balancers = time.Now(), nil
}

// stop ends all absences, with the proxy.
func (all *absences) stop() {
	all.mu.Lock()
	all.end()
	all.mu.Unlock()
	all.running.Wait()
}

// run has f run before the proxy ends, which it says by ctx. False: it has ended.
func (all *absences) run(f func()) bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.ctx.Err() != nil {
		return false
	}
	all.running.Go(f)
	return true
}

// forget drops what was over so long ago that it does not count any more.
func (all *absences) forget() {
	all.mu.Lock()
	defer all.mu.Unlock()
	for addr, a := range all.byAddr {
		if !a.over.IsZero() && time.Since(a.over) > a.wait {
			delete(all.byAddr, addr)
		}
	}
}
