package l7proxy

import (
	"context"
	"sync"

	"github.com/underlane/underlane/pkg/mesh"
	"github.com/underlane/underlane/pkg/tap"
)

// lateDialsPerKey bounds the dials to an endpoint that go on for nobody.
const lateDialsPerKey = 4

// lateDials counts the dials that go on after the time of the request that they
// were made for. The end of that time tells nothing of the endpoint. How the dial
// ends does: an endpoint that cannot be reached is noticed however short the
// requests' time limits are, and a connection that took long serves the next one.
type lateDials struct {
	mu sync.Mutex
	n  map[PoolKey]int
}

func (l *lateDials) begin(key PoolKey) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n[key] >= lateDialsPerKey {
		return false
	}
	if l.n == nil {
		l.n = make(map[PoolKey]int)
	}
	l.n[key]++
	return true
}

func (l *lateDials) end(key PoolKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n[key]--; l.n[key] == 0 {
		delete(l.n, key)
	}
}

// dialBefore is dialOwn for a request whose time is limited: ctx has a deadline.
func (s *Session) dialBefore(ctx context.Context, c *Choice) (*h1Upstream, error) {
	p := s.proxy
	dialled, balanced := *c, c.balanced() // it may outlive c
	dialled.load = load{}
	unlimited, cancel := context.WithCancel(p.absences.ctx)
	type result struct {
		up  *h1Upstream
		err error
	}
	done, goesOn := make(chan result), make(chan bool, 1)
	if !p.absences.run(func() {
		defer cancel()
		up, err := s.dialOwn(unlimited, &dialled)
		select {
		case done <- result{up, err}:
		case <-ctx.Done():
			if <-goesOn {
				p.lateDials.end(dialled.Key)
			} else {
				balanced = false
			}
			p.dialledLate(&dialled, up, err, balanced)
		}
	}) {
		cancel()
		return nil, mesh.Fail(mesh.ReasonOverload, p.absences.ctx.Err())
	}
	select {
	case r := <-done:
		if r.err != nil && !ownFault(r.err) {
			c.failed(reasonOf(r.err))
		}
		c.TLS, c.Peer, c.reached = dialled.TLS, dialled.Peer, dialled.reached
		c.dialled()
		return r.up, r.err
	case <-ctx.Done():
		on := ctx.Err() == context.DeadlineExceeded && p.lateDials.begin(c.Key)
		if !on {
			cancel()
		}
		goesOn <- on
		return nil, mesh.Fail(mesh.ReasonTimeout, ctx.Err())
	}
}

// dialledLate ends a dial that nobody waits for. judge says whether its failure
// counts.
func (p *Proxy) dialledLate(c *Choice, up *h1Upstream, err error, judge bool) {
	switch {
	case err == nil && (c.Key.Session != 0 || c.TLS == tap.TLSAgentDown):
		up.conn.Close()
	case err == nil:
		p.pool.put(up)
	case judge && !ownFault(err) && elsewhere(reasonOf(err)):
		p.absent(c, reasonOf(err), nil)
	}
}
