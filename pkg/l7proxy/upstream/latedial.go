package upstream

import (
	"context"
	"sync"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/mesh"
)

// lateDialsPerKey bounds the dials to an endpoint that go on after their request.
const lateDialsPerKey = 4

// lateDials counts the dials that go on after the time limit of their request has passed.
// The limit says nothing about the endpoint, but the outcome of the dial does: an endpoint
// that cannot be reached is noticed even if the limits of requests are short, and a
// connection that took long serves the next request.
type lateDials struct {
	mu sync.Mutex
	n  map[Key]int
}

func (l *lateDials) begin(key Key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n[key] >= lateDialsPerKey {
		return false
	}
	if l.n == nil {
		l.n = make(map[Key]int)
	}
	l.n[key]++
	return true
}

func (l *lateDials) end(key Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n[key]--; l.n[key] == 0 {
		delete(l.n, key)
	}
}

// dialBefore is dialHTTP1 for a request with a time limit, which is ctx's deadline.
func (p *Pool) dialBefore(ctx context.Context, ep *Endpoint, client Client) (*HTTP1Conn, error) {
	dialled := *ep // the dial may outlive ep
	began := balance.Now()
	unlimited, cancel := context.WithCancel(p.Lifetime.Ended)
	type result struct {
		c   *HTTP1Conn
		err error
	}
	done, goesOn := make(chan result), make(chan bool, 1)
	if !p.start(func() {
		defer cancel()
		c, err := p.dialHTTP1(unlimited, &dialled, client)
		select {
		case done <- result{c, err}:
		case <-ctx.Done():
			on := <-goesOn
			if on {
				p.lateDials.end(dialled.Key)
			}
			p.dialledLate(&dialled, c, err, on && dialled.Balanced)
		}
	}) {
		cancel()
		return nil, mesh.Fail(mesh.ReasonOverload, p.Lifetime.Ended.Err())
	}
	select {
	case r := <-done:
		ep.Took = dialled.Took
		return r.c, r.err
	case <-ctx.Done():
		ep.Took = Took{Began: began, Connected: balance.Now()} // the dial still uses its own
		on := ctx.Err() == context.DeadlineExceeded && p.lateDials.begin(ep.Key)
		if !on {
			cancel()
		}
		goesOn <- on
		return nil, mesh.Fail(mesh.ReasonTimeout, ctx.Err())
	}
}

// dialledLate takes the outcome of a dial that no request waits for any more. judge is set
// if a failure counts against the endpoint.
func (p *Pool) dialledLate(ep *Endpoint, c *HTTP1Conn, err error, judge bool) {
	switch {
	case err == nil && ep.Key.Session != 0:
		c.Close()
	case err == nil:
		p.Keep(c, balance.Now())
	case judge && !LocalFault(err) && TriesNextEndpoint(ReasonOf(err)):
		p.OnUnreachable(ep, ReasonOf(err))
	}
}

// start runs f in a goroutine that the end of the pool waits for. It returns false if the
// pool has ended.
func (p *transport) start(f func()) bool {
	p.startMu.Lock()
	defer p.startMu.Unlock()
	if p.Lifetime.Ended.Err() != nil {
		return false
	}
	p.running.Go(f)
	return true
}
