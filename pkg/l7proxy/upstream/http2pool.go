package upstream

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/underlane/underlane/pkg/l7proxy/balance"
	"github.com/underlane/underlane/pkg/l7proxy/h2conn"
	"github.com/underlane/underlane/pkg/l7proxy/http2"
	"github.com/underlane/underlane/pkg/mtls"
)

// Bounds of the pool for one key.
const (
	http2ConnsPerKey  = 64
	http2WaitersADial = 100 // streams that a new connection is expected to take, before the endpoint has said (RFC 9113 §6.5.2)
)

// http2Window is the receive window of a connection. It covers the windows of all its
// streams, so that streams whose clients do not read never stop the others. What bounds the
// memory is the window of each stream, and the limit of each pod (package quota).
const http2Window = 1 << 30

// http2StreamsPerConn is how many streams the window of a connection covers.
const http2StreamsPerConn = http2Window / http2.DefaultStreamWindow

// http2Crowd is how many requests make another connection to an endpoint worthwhile that
// allows as many as there are: one thread at a time carries a connection, here and there.
// No request waits for the other connection.
const http2Crowd = 100

// http2Pool holds the HTTP/2 connections to endpoints, shared by all requests of one
// Key.
type http2Pool struct {
	pool[*HTTP2Conn, struct{}] // requests wait in queues
	owner                      *Pool

	// mu guards these as well.
	queues map[Key]*http2Queue
	ended  bool // drain was called: no connection is kept any more

	waiting atomic.Int64  // requests that wait for a stream
	refused atomic.Uint64 // requests that were refused because too many wait already
}

// Stream is a request of the HTTP/2 driver. For one connection, one goroutine at a time
// calls its methods. They must not wait.
type Stream interface {
	// Attach sends the request on c (see HTTP2Conn.Open), and reports whether c accepted
	// it. The caller of OpenHTTP2 holds the stream's lock.
	Attach(c *HTTP2Conn, b *h2conn.Batch) bool
	// Connected tells an attempt that waits for a connection which one it gets, or why
	// there is none. The stream may have given the attempt up meanwhile.
	Connected(attempt int32, c *HTTP2Conn, err error, b *h2conn.Batch)
	// ServerHeaders takes the head of a response, also of an interim one, or trailers.
	ServerHeaders(c *HTTP2Conn, ev *http2.Event, b *h2conn.Batch)
	// ServerData takes bytes of the response's body.
	ServerData(c *HTTP2Conn, ev *http2.Event, b *h2conn.Batch)
	// ServerReset takes RST_STREAM, or an event that has the same meaning.
	ServerReset(c *HTTP2Conn, ev *http2.Event, b *h2conn.Batch)
	// ServerGone is called when the connection has ended, with err.
	ServerGone(c *HTTP2Conn, err error, b *h2conn.Batch)
	// ServerRoom is called when more of the request can be sent.
	ServerRoom(b *h2conn.Batch)
}

// OpenHTTP2 puts a stream's attempt on a connection to the endpoint. If none has room, the
// attempt waits until one has room or is made: Connected is called then, unless
// ForgetHTTP2 was called before. not is a connection that refused the stream, or nil:
// another one is preferred. bodyless is set if the request has no body. OpenHTTP2 returns
// false if too many requests wait already. The caller holds the stream's lock.
func (p *Pool) OpenHTTP2(ep *Endpoint, client Client, st Stream, attempt int32, bodyless bool, not *HTTP2Conn, b *h2conn.Batch) bool {
	pool := &p.http2
	load := http2Crowd // those that carry fewer requests than this come first, then than twice as many
	for i := 0; ; i++ {
		pool.mu.Lock()
		conns := pool.conns[ep.Key]
		if i == len(conns) && load < http2StreamsPerConn {
			i, load = 0, 2*load
		}
		if i >= len(conns) || pool.queued(ep.Key) {
			break // with mu
		}
		c := conns[i]
		pool.mu.Unlock()
		if c == not || !c.fits(ep) {
			continue
		}
		if n := c.load(); n < load && (n >= load/2 || load == http2Crowd) && st.Attach(c, b) {
			if n >= http2Crowd {
				pool.grow(ep, client, c)
			}
			return true
		}
	}
	defer pool.mu.Unlock()
	return pool.wait(&waiter{
		stream: st, attempt: attempt, ep: *ep, client: client, not: not,
		bodyless: bodyless, since: time.Now(),
	}, b)
}

// grow makes another connection beside c, which carries many requests. For each connection
// it does so at most once in redialPause, so that an endpoint that accepts no further
// connection does not get a dial for each request.
func (p *http2Pool) grow(ep *Endpoint, client Client, c *HTTP2Conn) {
	now, last := int64(balance.Now()), c.grew.Load()
	if last != 0 && now-last < int64(redialPause) || !c.grew.CompareAndSwap(last, now) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended && p.size(ep.Key) < http2ConnsPerKey {
		go p.dial(*ep, client, p.begin(ep.Key, struct{}{}))
	}
}

// dial connects to the endpoint, for the streams that wait. It does not use the context
// of the stream that caused it, because others wait for the connection as well.
func (p *http2Pool) dial(ep Endpoint, client Client, d *dial[struct{}]) {
	nc, result, err := p.owner.Dial(p.owner.Lifetime.Ended, &ep, client.ClientAddr(), mtls.ALPNHTTP2)
	if ep.Balanced && err != nil && !LocalFault(err) && TriesNextEndpoint(ReasonOf(err)) {
		p.owner.OnUnreachable(&ep, ReasonOf(err)) // the requests that waited may have ended
	}
	var b h2conn.Batch
	if err != nil {
		p.mu.Lock()
		p.dialled(ep.Key, d)
		p.mu.Unlock()
		p.lose(ep.Key, &failedDial{err, ep.Took}, &b)
		b.Flush()
		return
	}
	c := newHTTP2Conn(p, nc, ep.Key, result, client.Usage().Account())
	c.Took = ep.Took
	c.leg = p.owner.opened(nc.Raw(), &ep, &result, client.ClientAddr(), "http2")
	c.Budget, c.Hangups = ep.Usage, p.owner.Hangups
	if ep.Key.Session != 0 {
		c.client = client
	}
	if c.agentDown { // it is used no longer than the agent counts as away
		time.AfterFunc(p.owner.Limits.AgentDownTTL, c.retire)
	}
	p.mu.Lock()
	p.dialled(ep.Key, d)
	ended := p.ended
	if len(p.conns[ep.Key]) == 0 {
		c.early = 1
	}
	if !ended {
		p.add(ep.Key, c)
	}
	p.mu.Unlock()
	c.wake(&b)
	b.Flush()
	// serve takes the connection out of the pool when it ends, so it must be in before.
	go c.serve(p.owner.Limits.Idle)
	if ended { // drain has not seen it
		c.Drain()
	}
}

// DropHTTP2 drains the connections of some keys, which are private to a session that has
// ended.
func (p *Pool) DropHTTP2(keys []Key) {
	for _, c := range p.http2.take(keys) {
		c.Drain()
	}
}

// HTTP2Endpoints returns the endpoints of those keys that have connections or dials.
func (p *Pool) HTTP2Endpoints(keys []Key) (at []netip.AddrPort) {
	p.http2.mu.Lock()
	defer p.http2.mu.Unlock()
	for _, key := range keys {
		if p.http2.size(key) > 0 {
			at = append(at, key.Addr)
		}
	}
	return at
}

// drain ends each connection after its last stream. From then on none is kept.
func (p *http2Pool) drain() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	for _, c := range p.sweep(func(*HTTP2Conn) bool { return true }) {
		c.Drain()
	}
}
