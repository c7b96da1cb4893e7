package endpoints

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
)

// An endpoint that cannot be reached is ejected from all balancers that have it. No
// request is spent on finding out whether it is back: it is probed now and then.

// Times between the probes of an ejected endpoint: they double. One that comes
// back and is ejected again soon goes on where it was.
const (
	probeFirst = time.Second
	probeMost  = time.Minute
	// ejectionLimit is after how long requests find out all the same.
	ejectionLimit = time.Hour
	probesAtOnce  = 8
)

// ejection is of one address, from the probes of one client pod.
type ejection struct {
	addr      netip.AddrPort
	from      *mesh.Workload
	balancers []*balance.Balancer // that ejected it
	wait      time.Duration       // until the next probe
	over      time.Time           // zero: it lasts
}

// unreachable is Unreachable. already is a balancer that has ejected the endpoint.
func (s *Set) unreachable(ep *upstream.Endpoint, why mesh.Reason, already *balance.Balancer) {
	s.eject(ep.Client, ep.Peer.Addr, probeFirst, already)
	w := ep.Peer.Workload
	if w == nil || w.Node == ep.Client.Node || why != mesh.ReasonConnectTimeout && why != mesh.ReasonAgentDown {
		return
	}
	// Maybe its whole node is gone, or hangs: to notice once is to be enough. An
	// endpoint that is there after all is back in a moment.
	for addr := range s.balancers.onNode(w.Node) {
		s.eject(ep.Client, addr, 0, nil)
	}
}

// eject ejects an endpoint everywhere, and probes it in so long.
func (s *Set) eject(from *mesh.Workload, addr netip.AddrPort, wait time.Duration, already *balance.Balancer) {
	out := s.balancers.eject(addr)
	if already != nil {
		out = append(out, already)
	}
	if len(out) == 0 {
		return // its only endpoint everywhere, or known
	}
	s.ejections.unreachable.Add(uint64(len(out)))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Lifetime.Ended.Err() != nil {
		return
	}
	e := s.byAddr[addr]
	switch {
	case e == nil:
		e = &ejection{addr: addr, wait: wait}
		s.byAddr[addr] = e
	case e.over.IsZero():
		e.balancers = append(e.balancers, out...)
		return
	case time.Since(e.over) < e.wait:
		e.wait = nextWait(e.wait)
	default:
		e.wait = wait
	}
	e.from, e.balancers, e.over = from, out, time.Time{}
	s.Log.Debug("endpoint ejected: it cannot be reached", "endpoint", addr, "from", from.Name, "again", e.wait)
	s.running.Go(func() { s.awaitReturn(e) })
}

func nextWait(wait time.Duration) time.Duration {
	return min(max(2*wait, probeFirst), probeMost)
}

// awaitReturn probes an ejected endpoint until it answers or is no endpoint any
// more.
func (s *Set) awaitReturn(e *ejection) {
	began := time.Now()
	for wait := e.wait; ; wait = nextWait(wait) {
		s.mu.Lock()
		e.wait = wait
		s.mu.Unlock()
		pause := wait + rand.N(wait/4+1) // not all nodes at once
		select {
		case <-s.Lifetime.Ended.Done():
			return
		case <-time.After(pause):
		}
		ep := s.ejected(e)
		if ep == nil {
			return
		}
		s.probes <- struct{}{} // those before are bounded in time
		err := s.Probe(s.Lifetime.Ended, e.from, ep.Endpoint)
		<-s.probes
		if err == nil || time.Since(began) > ejectionLimit {
			s.readmit(e)
			s.Log.Debug("endpoint is back", "endpoint", e.addr, "away", time.Since(began), "cause", err)
			return
		}
	}
}

// ejected is the endpoint, as its service says now; nil, and the end of the
// ejection, if it is not one any more.
func (s *Set) ejected(e *ejection) *balance.Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range e.balancers {
		if ep := b.EjectedUnreachable(e.addr); ep != nil {
			return ep
		}
	}
	delete(s.byAddr, e.addr)
	return nil
}

// readmit lets an ejected endpoint in again.
func (s *Set) readmit(e *ejection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range e.balancers {
		b.Readmit(balance.Now(), e.addr)
	}
	e.over, e.balancers = time.Now(), nil
}

// forgetEjections drops what was over so long ago that it does not count any more.
func (s *Set) forgetEjections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for addr, e := range s.byAddr {
		if !e.over.IsZero() && time.Since(e.over) > e.wait {
			delete(s.byAddr, addr)
		}
	}
}
