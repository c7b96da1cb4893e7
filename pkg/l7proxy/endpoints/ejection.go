package endpoints

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/upstream"
	"github.com/underlane/underlane/pkg/mesh"
)

// An endpoint that cannot be reached is ejected from all balancers that have it. Probes find
// out when it is back, so that no request has to try.

// The time between two probes of an ejected endpoint doubles from probeFirst to probeMost.
// An endpoint that is ejected again soon after its return continues with the time that it
// had.
const (
	probeFirst = time.Second
	probeMost  = time.Minute
	// ejectionLimit is the longest ejection: then requests find out whether the endpoint
	// is back.
	ejectionLimit = time.Hour
	probesAtOnce  = 8
)

// ejection is the ejection of one address. One client pod of this node probes it.
type ejection struct {
	addr      netip.AddrPort
	from      *mesh.Workload
	balancers []*balance.Balancer // those that have ejected it
	wait      time.Duration       // before the next probe
	over      time.Time           // when it ended; zero: it has not
}

// unreachable is Unreachable. already is a balancer that has ejected the endpoint itself,
// or nil.
func (s *Set) unreachable(ep *upstream.Endpoint, why mesh.Reason, already *balance.Balancer) {
	s.eject(ep.Client, ep.Peer.Addr, probeFirst, already)
	w := ep.Peer.Workload
	if w == nil || w.Node == ep.Client.Node || why != mesh.ReasonConnectTimeout && why != mesh.ReasonAgentDown {
		return
	}
	// The whole node may be gone, or its agent may hang: one failure should be enough to
	// notice that. Other endpoints of the node that can be reached are back after their
	// first probe, which follows at once.
	for addr := range s.balancers.onNode(w.Node) {
		s.eject(ep.Client, addr, 0, nil)
	}
}

// eject ejects an endpoint from all balancers, and has it probed after wait.
func (s *Set) eject(from *mesh.Workload, addr netip.AddrPort, wait time.Duration, already *balance.Balancer) {
	out := s.balancers.eject(addr)
	if already != nil {
		out = append(out, already)
	}
	if len(out) == 0 {
		return // it is ejected already, or the only endpoint of each balancer
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

// awaitReturn probes an ejected endpoint until it answers, or no service has it any more.
func (s *Set) awaitReturn(e *ejection) {
	began := time.Now()
	for wait := e.wait; ; wait = nextWait(wait) {
		s.mu.Lock()
		e.wait = wait
		s.mu.Unlock()
		pause := wait + rand.N(wait/4+1) // so that nodes do not probe at the same time
		select {
		case <-s.Lifetime.Ended.Done():
			return
		case <-time.After(pause):
		}
		ep := s.ejected(e)
		if ep == nil {
			return
		}
		s.probes <- struct{}{} // waits at most as long as a probe takes
		err := s.Probe(s.Lifetime.Ended, e.from, ep.Endpoint)
		<-s.probes
		if err == nil || time.Since(began) > ejectionLimit {
			s.readmit(e)
			s.Log.Debug("endpoint is back", "endpoint", e.addr, "away", time.Since(began), "cause", err)
			return
		}
	}
}

// ejected returns the endpoint as its service has it now. If no service has it any more,
// ejected ends the ejection and returns nil.
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

// readmit ends the ejection of an endpoint in all balancers.
func (s *Set) readmit(e *ejection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range e.balancers {
		b.Readmit(balance.Now(), e.addr)
	}
	e.over, e.balancers = time.Now(), nil
}

// forgetEjections drops the ejections that ended too long ago to count for the next one.
func (s *Set) forgetEjections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for addr, e := range s.byAddr {
		if !e.over.IsZero() && time.Since(e.over) > e.wait {
			delete(s.byAddr, addr)
		}
	}
}
