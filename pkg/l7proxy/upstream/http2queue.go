package upstream

import (
	"container/list"
	"errors"
	"slices"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
)

const (
	// http2Waiters bounds the requests of a key that wait for a stream. Those that fit on
	// connections which are being made do not count.
	http2Waiters = 1000
	// redialPause is the time between a dial that failed and the next one, while there
	// are other connections whose streams the requests can wait for.
	redialPause = time.Second
	// stallGrace is how long a request with a body waits when the windows of the
	// endpoint's connections are used up. If the endpoint has read nothing by then, the
	// request gets a new connection.
	stallGrace = 50 * time.Millisecond
)

// waiter is an attempt of a stream that waits for a connection.
type waiter struct {
	stream  Stream
	attempt int32
	ep      Endpoint
	client  Client
	not     *HTTP2Conn // a connection that refused the request; nil: any will do

	bodyless bool
	since    time.Time
	place    *list.Element // in the queue; nil: it does not wait any more
}

// fits reports whether the connection may carry requests to the endpoint: one in plaintext
// only if that is allowed.
func (c *HTTP2Conn) fits(ep *Endpoint) bool { return ep.Fallback || !c.agentDown }

// http2Queue holds the attempts that wait for a stream to one endpoint, in their order.
// Resume gives them the streams that are free, and makes connections if those are too few.
// The pool's mu guards it.
type http2Queue struct {
	pool    *http2Pool
	key     Key
	waiters list.List          // of *waiter
	of      map[Stream]*waiter // those in waiters, of which a stream has one: thousands may wait, and each may go

	serving     bool        // Resume runs
	again       bool        // Resume has to look again before it returns
	stalled     bool        // the first waiter found a stream but no window
	pausedUntil time.Time   // no dial before, if there are connections
	timer       *time.Timer // calls Resume, or nil
}

// wait adds a waiter. It returns false if too many wait already. The caller holds mu.
func (p *http2Pool) wait(w *waiter, b *h2conn.Batch) bool {
	q := p.queues[w.ep.Key]
	if q == nil {
		q = &http2Queue{pool: p, key: w.ep.Key, of: make(map[Stream]*waiter)}
		if p.queues == nil {
			p.queues = make(map[Key]*http2Queue)
		}
		p.queues[q.key] = q
	}
	_, coming := q.supply()
	if q.waiters.Len()-coming >= http2Waiters {
		p.refused.Add(1)
		return false
	}
	w.place = q.waiters.PushBack(w)
	q.of[w.stream] = w
	p.waiting.Add(1)
	b.Then(q) // later, because the caller holds the stream's lock
	return true
}

// queued reports whether requests wait for a stream of that key. The caller holds mu.
func (p *http2Pool) queued(key Key) bool {
	if p.waiting.Load() == 0 {
		return false
	}
	q := p.queues[key]
	return q != nil && q.waiters.Len() > 0
}

// wake resumes the requests that wait for a connection like c.
func (c *HTTP2Conn) wake(b *h2conn.Batch) {
	p := c.pool
	if p.waiting.Load() == 0 {
		return
	}
	p.mu.Lock()
	q := p.queues[c.key]
	p.mu.Unlock()
	if q != nil {
		b.Then(q)
	}
}

// ForgetHTTP2 takes a stream out of the queue of the endpoint, if it waits there. If it has
// waited for the endpoint's first connection, took says how long that is being made already.
func (p *Pool) ForgetHTTP2(ep *Endpoint, st Stream) (took Took) {
	pool := &p.http2
	if pool.waiting.Load() == 0 {
		return took
	}
	pool.mu.Lock()
	defer pool.mu.Unlock()
	q := pool.queues[ep.Key]
	if q == nil {
		return took
	}
	if w := q.of[st]; w != nil {
		q.remove(w)
		if dials := pool.dials[ep.Key]; len(dials) > 0 && len(pool.conns[ep.Key]) == 0 {
			took = Took{Began: dials[0].began, Connected: balance.Now()}
		}
	}
	q.tidy()
	return took
}

// remove takes a waiter out, and reports whether it still waited. The caller holds mu.
func (q *http2Queue) remove(w *waiter) bool {
	if w.place == nil {
		return false
	}
	q.waiters.Remove(w.place)
	w.place = nil
	delete(q.of, w.stream)
	q.pool.waiting.Add(-1)
	return true
}

// at returns the waiter behind n others. The caller holds mu.
func (q *http2Queue) at(n int) *waiter {
	at := q.waiters.Front()
	for range n {
		at = at.Next()
	}
	return at.Value.(*waiter)
}

// bodyless returns the first waiter without a body, or nil. The caller holds mu.
func (q *http2Queue) bodyless() *waiter {
	for at := q.waiters.Front(); at != nil; at = at.Next() {
		if w := at.Value.(*waiter); w.bodyless {
			return w
		}
	}
	return nil
}

// tidy removes the queue if nothing waits in it. The caller holds mu.
func (q *http2Queue) tidy() {
	if q.serving || q.waiters.Len() > 0 {
		return
	}
	if q.timer != nil {
		q.timer.Stop()
	}
	if q.pool.queues[q.key] == q {
		delete(q.pool.queues, q.key)
	}
}

// Resume implements h2conn.Waiter. The caller holds no lock.
func (q *http2Queue) Resume(b *h2conn.Batch) {
	q.pool.mu.Lock()
	defer q.pool.mu.Unlock()
	q.again = true
	if q.serving {
		return
	}
	q.serving = true
	for q.again {
		q.again = false
		for q.serve(b) {
		}
		q.connect()
	}
	q.serving = false
	q.tidy()
}

// serve gives the first waiter a stream. If there are streams but no window, it gives one
// to the first waiter without a body, which needs none. It returns false if no waiter got
// a stream. The caller holds mu, which serve unlocks meanwhile.
func (q *http2Queue) serve(b *h2conn.Batch) bool {
	if q.waiters.Len() == 0 {
		return false
	}
	var c *HTTP2Conn
	w := q.at(0)
	if c, q.stalled = q.place(w); c == nil && q.stalled {
		if bodyless := q.bodyless(); bodyless != nil {
			w = bodyless
			c, _ = q.place(w)
		}
	}
	if c == nil {
		return false
	}
	if q.remove(w) { // else ForgetHTTP2 took it out
		q.pool.mu.Unlock()
		w.stream.Connected(w.attempt, c, nil, b)
		if c.load() > http2Crowd {
			q.pool.grow(&w.ep, w.client, c)
		}
		q.pool.mu.Lock()
	}
	c.withdraw()
	return true
}

// place finds a connection that promises w a stream. If there is none, stalled reports
// whether a connection has a stream but no window. The caller holds mu, which place
// unlocks meanwhile.
func (q *http2Queue) place(w *waiter) (c *HTTP2Conn, stalled bool) {
	not, conns := w.not, q.pool.conns[q.key]
	q.pool.mu.Unlock()
	defer q.pool.mu.Lock()
	for _, c := range conns {
		if c == not || !c.fits(&w.ep) {
			continue
		}
		err := c.promise(w)
		if err == nil {
			return c, false
		}
		stalled = stalled || errors.Is(err, ErrNoWindow)
	}
	return nil, stalled
}

// supply returns how many streams a connection to the endpoint takes, as far as is known,
// and how many the connections that are being made will take. The caller holds mu.
func (q *http2Queue) supply() (each, coming int) {
	each = http2WaitersADial
	fresh := len(q.pool.dials[q.key])
	for _, c := range q.pool.conns[q.key] {
		if n := int(c.limit.Load()); n >= 0 {
			each = n
		} else {
			fresh++
		}
	}
	return each, fresh * max(each, 1)
}

// connect makes connections for the waiters that do not fit on those being made. If the
// endpoint allows few streams on each, connect at most doubles their number at a time:
// while requests are quick, far fewer connections than requests suffice. The caller holds
// mu.
func (q *http2Queue) connect() {
	p := q.pool
	each, coming := q.supply()
	for ; q.waiters.Len() > coming && !p.ended; coming += max(each, 1) {
		conns, dials := len(p.conns[q.key]), len(p.dials[q.key])
		switch pause := time.Until(q.pausedUntil); {
		case conns+dials >= http2ConnsPerKey:
			q.takeAny()
			return
		case conns > 0 && pause > 0:
			q.lookIn(pause)
			return
		case q.stalled && time.Since(q.at(0).since) < stallGrace:
			q.lookIn(stallGrace - time.Since(q.at(0).since))
			return
		case each < http2WaitersADial && dials >= max(conns, 1), each == 0 && conns > 0:
			return
		}
		w := q.at(coming)
		go p.dial(w.ep, w.client, p.begin(q.key, struct{}{}))
	}
}

// takeAny lets waiters use the connections that refused them, because there will be no
// others.
func (q *http2Queue) takeAny() {
	for at := q.waiters.Front(); at != nil; at = at.Next() {
		if w := at.Value.(*waiter); w.not != nil {
			w.not, q.again = nil, true
		}
	}
}

// lookIn has Resume called after d.
func (q *http2Queue) lookIn(d time.Duration) {
	if q.timer != nil {
		q.timer.Reset(d)
		return
	}
	q.timer = time.AfterFunc(d, func() {
		var b h2conn.Batch
		q.Resume(&b)
		b.Flush()
	})
}

// failed takes out the waiters of a connection that could not be made. Those that can wait
// for a stream of another connection stay. The caller holds mu.
func (q *http2Queue) failed() (lost []*waiter) {
	most, _ := q.supply()
	if len(q.pool.dials[q.key]) == 0 {
		most = q.waiters.Len()
	}
	var next *list.Element
	for at := q.waiters.Front(); at != nil; at = next {
		next = at.Next()
		w := at.Value.(*waiter)
		w.not = nil
		switch {
		case slices.ContainsFunc(q.pool.conns[q.key], func(c *HTTP2Conn) bool { return c.fits(&w.ep) }):
			q.pausedUntil = time.Now().Add(redialPause)
		case len(lost) < max(most, 1):
			q.remove(w)
			lost = append(lost, w)
		}
	}
	return lost
}

// lose fails the waiters of a connection that could not be made, and resumes the others.
func (p *http2Pool) lose(key Key, err error, b *h2conn.Batch) {
	p.mu.Lock()
	q := p.queues[key]
	var lost []*waiter
	if q != nil {
		lost = q.failed()
		b.Then(q)
	}
	p.mu.Unlock()
	for _, w := range lost {
		w.stream.Connected(w.attempt, nil, err, b)
	}
}
